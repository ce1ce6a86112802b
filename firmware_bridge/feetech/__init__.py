"""Feetech serial bus servos: STS series (STS3215 of SO-100 and SO-101, STS3250) and SCS series."""
