"""The C library, built once for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.firmware_bridge.firmware import native


@pytest.fixture(scope="session")
def c(tmp_path_factory):
    """The shared library; skipped where no C compiler is."""
    if native.compiler() is None:
        pytest.skip(native.NO_COMPILER)
    sources = [*native.LIBRARY, native.HERE / "shim.c"]
    built = native.compile_c(tmp_path_factory.mktemp("c"), "library.so", sources, "-shared", "-fPIC")
    return native.Native(built)
