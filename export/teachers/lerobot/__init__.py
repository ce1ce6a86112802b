"""Policy folders of LeRobot as teachers: read by us, without the library."""
