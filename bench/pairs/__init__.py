"""Two versions of this repository side by side: the same hot paths, in turns, on one core, in one run."""
