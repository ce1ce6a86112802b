"""What the cost of a controller grows with, how fast, and which wall comes first: `edgevla bench scaling`."""
