"""Stand-ins for a Jetson: an emulated user space (smoke), a container with systemd (nspawn), a machine (twin)."""
