"""The RoboVLMs family: a vision-language model becomes a policy. Backbone, structure, history, head."""
