"""Debian's kernel in QEMU with this machine's own root, for what the kernel of this machine does not have."""
