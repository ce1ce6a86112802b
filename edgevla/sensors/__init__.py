"""Readings with an age: every frame carries the CLOCK_MONOTONIC time of its capture."""
