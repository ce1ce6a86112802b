"""Statistics that say what they prove: percentiles, binomial bounds, intervals."""
