"""What runs on the robot before a release is trusted: the installer and the boot selector. No NumPy, no network."""
