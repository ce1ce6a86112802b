"""edgevla: a trained vision-language-action model becomes a robot controller that holds its deadlines.

This package is the runtime and the command line. It runs on the robot: no torch, nothing fetched.
"""

__version__ = "0.1.0"
