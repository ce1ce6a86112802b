"""Does the compressed policy still do the task? Paired episodes on the same seeds."""
