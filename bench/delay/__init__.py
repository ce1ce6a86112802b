"""Closed loop with injected inference delay: what a constant delay with a prefix is worth."""
