"""Is a bundle good enough, without a simulator: recorded episodes, and blinded trials on the real arm."""
