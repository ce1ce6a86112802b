"""A measurement of a real board as one file that can be reviewed, checked and shown with its origin."""
