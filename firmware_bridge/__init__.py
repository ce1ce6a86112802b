"""Bytes between the control loop and the arm: transports, protocols, virtual devices."""
