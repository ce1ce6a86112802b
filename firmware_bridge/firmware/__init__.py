"""Reference firmware in C, and what Python knows of it: config.h from an arm's channels, images read back."""
