"""edgevla: a trained vision-language-action model becomes a robot controller that holds its deadlines.

This package is the runtime and the command line. It runs on the robot: no torch, nothing fetched.
"""

import os

# Newer ONNX Runtimes keep a database in the home folder and send to a server of their maker, unless this says no before
# they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
