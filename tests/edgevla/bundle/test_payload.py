"""The wheels of a release: all of the lock, for this robot, from a folder without a network or from the index."""

import shutil

import pytest

from edgevla.bundle import payload
from edgevla.bundle.download import cache_folder, download, why
from edgevla.bundle.locks import GROUPS, load_lock
from edgevla.bundle.own_wheel import build_own_wheel
from edgevla.bundle.parts import KnownTokens, KnownWords
from edgevla.bundle.payload import agent_wheels, collect, groups_of, require_closed
from edgevla.bundle.platforms import Platform
from edgevla.bundle.wheels import read_wheel
from edgevla.errors import BadInput, DeviceFault, Refused
from profiles.model import GpuWheel
from tests.tiny_wheels import write_lock, write_tiny_wheels, write_wheel

JETSON, DEBIAN = Platform("3.10", "aarch64", "2.35"), Platform("3.11", "aarch64", "2.36")
GPU_FILE = "onnxruntime_gpu-1.0-cp310-cp310-linux_aarch64.whl"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """(folder of wheels, locks, our own wheel)."""
    folder = tmp_path_factory.mktemp("shelf")
    wheels = write_tiny_wheels(folder / "wheels")
    for cp in ("cp310", "cp311"):
        write_lock(folder / "locks", cp, wheels)
    name, raw = build_own_wheel()
    (folder / name).write_bytes(raw)
    return folder / "wheels", folder / "locks", read_wheel(folder / name)


@pytest.fixture
def wheels(shelf, tmp_path):
    """A folder of wheels of the test's own."""
    return shutil.copytree(shelf[0], tmp_path / "wheels")


def collected(shelf, wheels, groups=(), gpu=None, platform=JETSON):
    return collect(platform, groups, shelf[2], wheels, wheels / "no cache", gpu, locks=shelf[1])


def test_all_of_the_lock_and_edgevla_last(shelf, wheels):
    found = [wheel.name for wheel in collected(shelf, wheels).wheels]
    assert found[:-1] == sorted(found[:-1])
    assert found[-1] == "edgevla"
    assert {"numpy", "onnxruntime", "cryptography", "typer"} <= set(found)
    assert not {"python-can", "opencv-python-headless"} & set(found)


def test_what_an_arm_and_a_policy_use_comes_with_them(shelf, wheels):
    words, tokens = KnownWords(("a",), 4, {}), KnownTokens({}, 0, "", b"{}")
    assert groups_of("feetech", words, opencv=False) == ()
    assert groups_of("damiao", words, opencv=True) == ("can", "camera")
    assert groups_of("cia402", tokens, opencv=False) == ("can", "tokenizer")
    assert groups_of("edgelink", KnownTokens({"a": (1,)}, 0, "", None), opencv=False) == ()
    found = {wheel.name for wheel in collected(shelf, wheels, ("can", "camera")).wheels}
    assert {"python-can", "canopen", "opencv-python-headless"} <= found


def test_the_installer_gets_what_signatures_and_archives_need(shelf, wheels):
    names = [wheel.name for wheel in collected(shelf, wheels).agent]
    assert names == ["cffi", "cryptography", "pycparser", "tomli", "typing-extensions", "zstandard", "edgevla"]
    later = [wheel.name for wheel in collected(shelf, wheels, platform=DEBIAN).agent]
    assert "typing-extensions" not in later  # cryptography asks for it before Python 3.11 only


def test_a_missing_wheel_is_named(shelf, wheels):
    next(wheels.glob("cffi-*")).unlink()
    with pytest.raises(Refused, match=r"lacks wheels for Python 3\.10 on aarch64(.|\n)*none of cffi-1\.0"):
        collected(shelf, wheels)


def test_an_altered_wheel_is_refused_and_not_called_missing(shelf, wheels):
    path = next(wheels.glob("numpy-*"))
    write_wheel(wheels, "numpy", headers="License: another build\n")
    with pytest.raises(BadInput, match=f"{path.name} is not the wheel of the lock"):
        collected(shelf, wheels)


def test_a_wheel_for_another_processor_is_no_wheel_of_this_robot(shelf, wheels, tmp_path):
    """Also where the lock knows it: an x86 wheel never gets into the payload of a Jetson."""
    next(wheels.glob("numpy-*")).unlink()
    write_wheel(wheels, "numpy", tag="cp310-cp310-manylinux_2_28_x86_64")
    locks = write_lock(tmp_path / "locks", "cp310", sorted(wheels.glob("*.whl")))
    with pytest.raises(Refused, match=r"none of numpy-1\.0"):
        collect(JETSON, (), shelf[2], wheels, wheels, locks=locks)


def test_a_folder_that_is_not_there_is_said(shelf, tmp_path):
    with pytest.raises(Refused, match="no such folder"):
        collected(shelf, tmp_path / "nothing")


def test_a_makers_wheel_that_nobody_fetched_is_asked_for_in_one_sentence(shelf, wheels, tmp_path):
    gpu = GpuWheel(
        "onnxruntime_gpu-*-cp310-*.whl", "onnxruntime", str(tmp_path / "vendor"), "the maker's download page"
    )
    with pytest.raises(
        Refused, match=r"get it from the maker's download page and put it into .*vendor; the CPU wheel is not"
    ):
        collected(shelf, wheels, gpu=gpu)
    write_wheel(tmp_path / "vendor", "onnxruntime-gpu", tag="cp310-cp310-linux_x86_64")
    with pytest.raises(BadInput, match="linux_x86_64"):
        collected(shelf, wheels, gpu=gpu)


def test_a_makers_wheel_takes_the_place_of_the_one_it_replaces(shelf, wheels, tmp_path):
    write_wheel(tmp_path / "vendor", "onnxruntime-gpu", tag="cp310-cp310-linux_aarch64", requires=["numpy"])
    gpu = GpuWheel("onnxruntime_gpu-*.whl", "onnxruntime", str(tmp_path / "vendor"), "its maker")
    found = collected(shelf, wheels, gpu=gpu)
    names = {wheel.name for wheel in found.wheels}
    assert "onnxruntime-gpu" in names
    assert "onnxruntime" not in names
    assert found.off_index == {"onnxruntime-gpu"}
    assert GPU_FILE in {wheel.file for wheel in found.wheels}


def test_a_payload_that_lacks_what_a_wheel_asks_for_is_refused(shelf, tmp_path):
    needy = read_wheel(write_wheel(tmp_path, "a", requires=["b>=2", "c; python_version < '3.9'"]))
    with pytest.raises(BadInput, match=r"b \(for a\)"):
        require_closed([needy], JETSON)
    assert agent_wheels([needy], JETSON) == ()


def test_what_the_cache_lacks_is_fetched_and_the_cache_is_not_believed(shelf, wheels, tmp_path, monkeypatch):
    """The index is a folder here; the real one is asked at the end of this file."""
    cache, asked = tmp_path / "cache", []
    cache.mkdir()
    shutil.copy(next(wheels.glob("numpy-*")), cache)
    (cache / "cffi-1.0-py3-none-any.whl").write_bytes(b"half of it")

    def fetch(pins, platform, dest):
        asked.extend(pin.name for pin in pins)
        for pin in pins:
            shutil.copy(wheels / f"{pin.name.replace('-', '_')}-1.0-py3-none-any.whl", dest)

    monkeypatch.setattr(payload, "download", fetch)
    said = []
    found = collect(JETSON, (), shelf[2], None, cache, say=said.append, locks=shelf[1])
    assert "numpy" not in asked
    assert "cffi" in asked
    assert len(found.wheels) == len(asked) + 2  # numpy, and our own
    assert said == [f"fetching {len(asked)} of {len(asked) + 1} wheels for Python 3.10 on aarch64"]
    asked.clear()
    collect(JETSON, (), shelf[2], None, cache, locks=shelf[1])
    assert asked == []


def test_pips_reason_is_told_without_an_address():
    stderr = "WARNING: x\nERROR: Could not fetch URL https://example.invalid/simple/numpy/: refused\n"
    assert why(stderr) == "Could not fetch URL (the index) refused"
    assert why("") == "no reason given"


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgevla/wheels"


def test_without_an_index_the_reason_is_one_sentence(tmp_path, monkeypatch):
    """pip itself, pointed at nothing: `--no-index` of its own settings."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    pin = load_lock("cp310", ())["numpy"]
    with pytest.raises(DeviceFault, match=r"(?s)the robot's wheels were not fetched.*numpy==2\.2\.6.*--wheels DIR"):
        download([pin], JETSON, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("platform", [JETSON, DEBIAN], ids=["jetson-orin", "generic-aarch64"])
def test_the_index_gives_the_wheels_of_an_aarch64_robot(tmp_path, platform):
    """The small ones of the real lock, compiled and pure, with their hashes; all of them when a release is built."""
    lock = load_lock(platform.cp, GROUPS)
    pins = [lock[name] for name in ("cffi", "wrapt", "pyserial")]
    try:
        paths = download(pins, platform, tmp_path, timeout_s=120)
    except DeviceFault as error:
        pytest.skip(f"the package index cannot be reached here: {' '.join(str(error).split())}")
    found = {wheel.name: wheel for wheel in map(read_wheel, paths)}
    assert found.keys() == {"cffi", "wrapt", "pyserial"}
    assert all(wheel.sha256 in lock[name].hashes for name, wheel in found.items())
    assert all("aarch64" in found[name].file for name in ("cffi", "wrapt"))
