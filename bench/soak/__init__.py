"""The real loop for hundreds of thousands of servo steps, in blocks that add up in one evidence file."""
