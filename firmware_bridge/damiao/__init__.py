"""Damiao joint motors: MIT and force-position mode over CAN 2.0 and CAN-FD."""
