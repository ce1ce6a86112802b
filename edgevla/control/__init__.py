"""The servo side: schedule, limits, clock, shared memory and the servo process."""
