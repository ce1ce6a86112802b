"""The fault suite: the real loop, one fault at a time, judged by oracles of its own."""
