"""Against the real LeRobot, in an environment of its own: `make test-lerobot`. Nothing here runs in `make test`."""
