"""moteus brushless controllers over CAN-FD."""
