"""Tokens, preprocessing, the inference engine and its process."""
