"""The errors a user meets. One message each; the command line prints it and exits with `exit_code`.

Exit codes: 0 kept or done, 1 claim broken or configuration refused, 2 usage, 3 could not be measured soundly,
4 bad input, 5 device or transport.
"""

from __future__ import annotations

from firmware_bridge.errors import explain as explain


class EdgevlaError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class Refused(EdgevlaError):
    """A claim does not hold or a configuration cannot hold: H too short, latency above the declared bound."""

    exit_code = 1


class Usage(EdgevlaError):
    """The command was called wrongly: an unknown option value, two options that exclude each other."""

    exit_code = 2


class Unsound(EdgevlaError):
    """It could not be measured soundly: too few samples, no real-time priority, a stolen host."""

    exit_code = 3


class BadInput(EdgevlaError):
    """A file or a value from outside is wrong: an altered bundle, an unknown word, a wrong image size."""

    exit_code = 4


class DeviceFault(EdgevlaError):
    """A device or its transport failed: a dead port, an arm that does not answer, a crashed process."""

    exit_code = 5
