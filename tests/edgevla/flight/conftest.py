"""One tiny bundle for all tests of flight records."""

import pytest

from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle").path
