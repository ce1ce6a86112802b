"""The real loop at its operating rate, held against a budget: what `edgevla bench guard` runs and says."""
