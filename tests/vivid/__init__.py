"""A real V4L2 device (the kernel's own test driver, vivid) in a virtual machine: `python -m tests.vivid`."""
