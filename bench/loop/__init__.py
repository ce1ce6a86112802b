"""Wake latency and bus exchanges of the servo's own primitives, beside cyclictest in the same run."""
