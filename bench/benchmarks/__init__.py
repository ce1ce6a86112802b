"""docs/benchmarks.md: one table a subject, from the committed results."""
