"""Checkpoints of the original RoboVLMs: their project files, weights and actions, read into what is ours."""
