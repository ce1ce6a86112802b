"""Virtual devices: what every protocol's `virtual.py` stands on."""
