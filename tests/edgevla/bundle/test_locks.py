"""The robot's locks: sound, closed, and the same versions as requirements/ says."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edgevla.bundle.locks import FOLDER, GROUPS, load_lock, normalised, parse_lock
from edgevla.bundle.own_wheel import read_declared
from edgevla.bundle.platforms import platform_of
from edgevla.errors import BadInput, Refused
from profiles import list_targets, load_target

ROOT = Path(__file__).parents[3]
PYTHONS = sorted(path.name for path in FOLDER.glob("cp*"))


def lines_of(name):
    text = (ROOT / f"requirements/{name}.txt").read_text()
    return {normalised(line.split("==")[0]): line.split("==")[1] for line in text.splitlines() if re.match(r"\w", line)}


def test_the_lock_of_python_310_is_that_of_requirements():
    assert {pin.name: pin.version for pin in load_lock("cp310", ()).values()} == lines_of("robot")


@pytest.mark.parametrize("cp", [cp for cp in PYTHONS if cp != "cp310"])
def test_the_lock_of_a_later_python_has_the_versions_of_the_workstation(cp):
    workstation, lock = lines_of("workstation"), load_lock(cp, GROUPS)
    assert lock["onnxruntime"].version == workstation["onnxruntime"]
    differ = {
        n: (p.version, workstation[n]) for n, p in lock.items() if n in workstation and p.version != workstation[n]
    }
    assert not differ


@pytest.mark.parametrize("cp", PYTHONS)
def test_every_dependency_of_edgevla_is_locked(cp):
    markers = {"python_version": f"3.{cp[3:]}"}
    wanted = [Requirement(line) for line in read_declared().requires]
    needed = {normalised(one.name): one for one in wanted if one.marker is None or one.marker.evaluate(markers)}
    lock = load_lock(cp, ())
    assert needed.keys() <= lock.keys()
    assert all(one.specifier.contains(lock[name].version) for name, one in needed.items())


@pytest.mark.parametrize("cp", PYTHONS)
def test_compiled_wheels_have_a_hash_for_each_architecture(cp):
    lock = load_lock(cp, GROUPS)
    assert {"numpy", "onnxruntime", "cryptography", "opencv-python-headless", "tokenizers", "wrapt"} <= lock.keys()
    assert all(len(lock[name].hashes) == 2 for name in ("numpy", "onnxruntime", "cryptography", "cffi", "zstandard"))
    assert all(1 <= len(pin.hashes) <= 2 for pin in lock.values())


def test_every_shipped_target_has_a_lock():
    assert {platform_of(load_target(name)).cp for name in list_targets()} <= set(PYTHONS)


def test_a_python_without_a_lock_is_refused_with_those_there_are():
    with pytest.raises(Refused, match=r"cp310, cp311, cp312, cp313"):
        load_lock("cp39", ())


def test_a_line_that_is_no_pin_is_refused():
    with pytest.raises(BadInput, match="numpy>=2"):
        parse_lock("numpy>=2\n", "lock.txt")
    with pytest.raises(BadInput):
        parse_lock("numpy==2.2.6\n", "lock.txt")  # no hash


def test_a_pin_is_written_as_it_is_read():
    (pin,) = parse_lock(
        f"# comment\nTyping_Extensions==4.16.0 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n", "x"
    )
    assert pin.name == "typing-extensions"
    assert pin.hashes == {"a" * 64, "b" * 64}
    assert parse_lock(pin.line(), "x") == [pin]


def test_no_lock_names_an_index():
    assert not [path for path in FOLDER.rglob("*.txt") if "://" in path.read_text()]
