"""SmolVLA in one int8 pass against LeRobot's own ten steps, and how the full-size graphs compare with torch."""
