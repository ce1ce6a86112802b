"""What a bundle may take on a computer that is not here: an interval, and a prediction, never a measurement."""
