"""Stock tools that must agree with ours."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed (apt: openssl)")
needs_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed (apt: tar)")


def openssl(*arguments: str | Path, expect: int = 0) -> bytes:
    """Its stdout; it must end with the exit code `expect`."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=60)
    assert done.returncode == expect, done.stderr.decode()
    return done.stdout
