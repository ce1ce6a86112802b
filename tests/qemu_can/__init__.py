"""Real SocketCAN (vcan, slcan) in a virtual machine: `python -m tests.qemu_can`."""
