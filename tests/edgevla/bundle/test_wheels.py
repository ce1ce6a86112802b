"""A wheel read as data."""

import zipfile

import pytest

from edgevla.bundle.platforms import Platform
from edgevla.bundle.wheels import best_of, closure, read_wheel, require_runs
from edgevla.errors import BadInput
from tests.tiny_wheels import write_wheel

JETSON = Platform("3.10", "aarch64", "2.35")
ARM, X86 = "cp310-cp310-manylinux_2_28_aarch64", "cp310-cp310-manylinux_2_28_x86_64"


def test_name_version_license_and_hash_are_read(tmp_path):
    wheel = read_wheel(write_wheel(tmp_path, "typing-extensions", requires=["numpy>=1"]))
    assert (wheel.name, wheel.version, wheel.license, wheel.requires) == (
        "typing-extensions",
        "1.0",
        "MIT",
        ("numpy>=1",),
    )
    assert wheel.bytes == wheel.path.stat().st_size
    assert len(wheel.sha256) == 64


@pytest.mark.parametrize(
    ("headers", "license"),
    [
        ("License-Expression: Apache-2.0 OR MIT\nLicense: other\n", "Apache-2.0 OR MIT"),
        ("Classifier: License :: OSI Approved :: BSD License\n", "BSD License"),
        ("License: 3-Clause BSD\n", "3-Clause BSD"),
        ("License: Copyright\n  of a whole page\n", ""),
        ("", ""),
    ],
)
def test_the_license_is_what_the_metadata_says(tmp_path, headers, license):
    assert read_wheel(write_wheel(tmp_path, "a", headers=headers)).license == license


def test_a_wheel_for_another_processor_is_refused(tmp_path):
    wheel = read_wheel(write_wheel(tmp_path, "numpy", tag=X86))
    with pytest.raises(BadInput, match=r"a wheel for Python 3\.10, aarch64, glibc 2\.35"):
        require_runs(wheel, JETSON)
    with pytest.raises(BadInput):
        require_runs(wheel, JETSON, vendor=True)


def test_only_a_makers_wheel_may_say_linux_alone(tmp_path):
    wheel = read_wheel(write_wheel(tmp_path, "onnxruntime-gpu", tag="cp310-cp310-linux_aarch64"))
    require_runs(wheel, JETSON, vendor=True)
    with pytest.raises(BadInput):
        require_runs(wheel, JETSON)


def test_a_wheel_for_a_newer_python_is_refused(tmp_path):
    wheel = read_wheel(write_wheel(tmp_path, "numpy", headers="Requires-Python: >=3.11\n"))
    with pytest.raises(BadInput, match=r"Requires-Python: >=3\.11"):
        require_runs(wheel, JETSON)


def test_the_better_of_two_wheels_is_taken(tmp_path):
    wheels = [read_wheel(write_wheel(tmp_path, "numpy", tag=tag)) for tag in (X86, "py3-none-any", ARM)]
    best = best_of(wheels, JETSON)
    assert best is not None
    assert best.file == f"numpy-1.0-{ARM}.whl"
    assert best_of(wheels[:1], JETSON) is None


@pytest.mark.parametrize("spoil", ["not a zip", "no metadata", "another name", "bad name"])
def test_a_file_that_is_no_wheel_is_one_clear_error(tmp_path, spoil):
    path = tmp_path / ("numpy.whl" if spoil == "bad name" else "numpy-1.0-py3-none-any.whl")
    if spoil == "not a zip":
        path.write_bytes(b"PK nothing")
    elif spoil == "another name":
        write_wheel(tmp_path, "scipy").rename(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("numpy/__init__.py", "")
    with pytest.raises(BadInput, match=r"the wheel numpy.* is not to be used"):
        read_wheel(path)


def test_a_closure_follows_markers_and_names_what_is_missing():
    requires = {
        "cryptography": ["cffi>=2", "typing-extensions; python_version < '3.11'"],
        "cffi": ["pycparser", "x; extra == 'test'"],
    }
    assert closure(["Cryptography"], requires, JETSON, {}) == (
        {"cryptography", "cffi"},
        {"typing-extensions": "cryptography", "pycparser": "cffi"},
    )
    later = Platform("3.11", "aarch64", "2.35")
    assert closure(["cryptography"], requires, later, {})[1] == {"pycparser": "cffi"}
    assert closure(["cryptography"], requires, later, {"cffi": {"pycparser"}})[1] == {}


def test_requirements_that_are_none_are_refused():
    with pytest.raises(BadInput, match="METADATA of a"):
        closure(["a"], {"a": ["not a requirement ?"]}, JETSON, {})
