"""A bare robot and an unpacked bundle: runtime/provision.py brings the installer and the key, or nothing."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from edgevla.errors import BadInput
from edgevla.install import agent_files
from edgevla.install.layout import Layout
from edgevla.trust.keys import generate, load_public
from edgevla.trust.store import pinned
from tests.tiny_release import make_workshop
from tests.tiny_wheels import write_wheel

PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))  # a bare one: none of our environment


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_bundle_path):
    return make_workshop(tmp_path_factory.mktemp("workshop"), tiny_bundle_path)


@pytest.fixture(scope="module")
def built(shop, tmp_path_factory):
    return shop.build(tmp_path_factory.mktemp("built") / "tiny.bundle")


@pytest.fixture
def bundle(built, tmp_path):
    """An unpacked bundle of the test's own."""
    return shutil.copytree(built.path, tmp_path / "tiny.bundle")


@pytest.fixture
def prefix(tmp_path):
    return tmp_path / "robot/edgevla"


def run(bundle, shop, prefix, *words, typed=None, key=None, path=None):
    """The script as a person starts it; without `typed` the fingerprint is told by option."""
    told = ["--fingerprint", load_public(key or shop.public).fingerprint] if typed is None else []
    command = [PYTHON, bundle / "runtime/provision.py", "--key", key or shop.public, "--prefix", prefix, *told, *words]
    environment = {"PATH": path or os.environ["PATH"], "LANG": "C.UTF-8"}
    return subprocess.run(
        [str(word) for word in command], input=typed or "", capture_output=True, text=True, timeout=120, env=environment
    )


def refused(result, prefix, code, says):
    assert (result.returncode, says in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr
    assert not prefix.exists()
    assert not prefix.parent.exists()


def test_a_bare_robot_gets_installer_launcher_and_trust(bundle, built, shop, prefix):
    result = run(bundle, shop, prefix)
    assert result.returncode == 0, result.stderr
    assert load_public(shop.public).fingerprint in result.stdout
    layout = Layout(prefix)
    assert layout.trust.read_bytes() == pinned([load_public(shop.public)]).to_bytes()
    assert os.readlink(layout.agent) == built.id
    assert (layout.agent / "edgevla/install/agent.py").is_file()
    assert (layout.agent / "cryptography/__init__.py").is_file()
    assert list((layout.agent / "edgevla").glob("__pycache__/*.pyc"))
    assert {path.name for path in layout.agents.iterdir()} == {built.id, "current"}
    assert layout.lock.stat().st_mode & 0o777 == 0o600, "whoever can open it can hold it for ever"
    assert not list(bundle.rglob("__pycache__")), "a file more in the bundle would spoil it"


def test_the_launcher_starts_the_installer(bundle, shop, prefix):
    assert run(bundle, shop, prefix).returncode == 0
    moved = prefix.rename(prefix.with_name("moved"))  # mounted elsewhere
    link = moved.parent / "edgevla-agent"
    link.symlink_to(moved / "bin/edgevla-agent")
    for command in (moved / "bin/edgevla-agent", link):
        told = subprocess.run(
            [command, "status"], capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]}
        )
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["current"] is None


def test_calling_it_again_changes_nothing(bundle, shop, prefix):
    assert run(bundle, shop, prefix).returncode == 0
    before = {path: path.lstat().st_mtime_ns for path in prefix.rglob("*") if path.name != "lock"}
    again = run(bundle, shop, prefix)
    assert again.returncode == 0
    assert "nothing was changed" in again.stdout
    assert {path: path.lstat().st_mtime_ns for path in prefix.rglob("*") if path.name != "lock"} == before


def test_what_a_power_cut_left_is_completed(bundle, built, shop, prefix):
    """trust.json comes last: all before it is done again or kept."""
    assert run(bundle, shop, prefix).returncode == 0
    layout = Layout(prefix)
    layout.trust.unlink()
    layout.launcher.unlink()
    layout.agent.unlink()
    (layout.agents / f".{built.id}.new").mkdir()
    assert run(bundle, shop, prefix).returncode == 0
    assert layout.trust.is_file()
    assert layout.launcher.is_file()
    assert os.readlink(layout.agent) == built.id
    assert {path.name for path in layout.agents.iterdir()} == {built.id, "current"}


def test_the_question_is_answered_by_yes_alone(bundle, shop, prefix):
    assert "you were told by another way" in run(bundle, shop, prefix, typed="yes\n").stdout
    assert Layout(prefix).trust.is_file()
    shutil.rmtree(prefix.parent)
    for answer in ("", "y\n", "no\n"):
        refused(run(bundle, shop, prefix, typed=answer), prefix, 1, "not confirmed")


def test_a_fingerprint_may_have_colons_and_capitals(bundle, shop, prefix):
    digits = load_public(shop.public).fingerprint.upper()
    written = ":".join(digits[i : i + 2] for i in range(0, 64, 2))
    assert run(bundle, shop, prefix, "--fingerprint", written, typed="").returncode == 0


def test_another_fingerprint_is_refused(bundle, shop, prefix):
    refused(run(bundle, shop, prefix, "--fingerprint", "0" * 64, typed=""), prefix, 1, "another fingerprint")


def test_another_key_than_the_one_that_signed_is_refused(bundle, shop, prefix, tmp_path):
    generate(tmp_path / "other.key", tmp_path / "other.pub")
    refused(run(bundle, shop, prefix, key=tmp_path / "other.pub"), prefix, 4, "is not signed by the key")


def test_an_altered_manifest_is_refused(bundle, shop, prefix):
    raw = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(raw.replace(b'"counter": 1', b'"counter": 9'))
    refused(run(bundle, shop, prefix), prefix, 4, "or its manifest was altered")


def test_an_altered_wheel_is_refused_before_anything_of_it_runs(bundle, shop, prefix):
    (wheel,) = (bundle / "runtime/wheels").glob("edgevla-*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("edgevla/more.py", "")
    refused(run(bundle, shop, prefix), prefix, 4, "was altered")


def test_a_module_that_nobody_signed_is_not_imported(bundle, shop, prefix, tmp_path):
    """The manifest does not know it, so that no hash tells it: Python must not look there."""
    for name in ("json", "argparse", "hashlib", "edgevla"):
        (bundle / f"runtime/{name}.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')")
    assert run(bundle, shop, prefix).returncode == 0
    assert not (tmp_path / "was run").exists()


def test_an_unsigned_bundle_is_refused(bundle, shop, prefix):
    (bundle / "manifest.sig").unlink()
    refused(run(bundle, shop, prefix), prefix, 4, "is not signed")


def test_a_policy_bundle_is_refused(bundle, shop, prefix):
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    del manifest["release"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    refused(run(bundle, shop, prefix), prefix, 4, "not that of a bundle for a robot")


@pytest.mark.parametrize(("key", "value"), [("arch", "riscv64"), ("python", "3.9")])
def test_a_bundle_for_another_computer_is_refused(bundle, shop, prefix, key, value):
    """Signed again, so that nothing but the computer is wrong."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["release"][key] = value
    raw = json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(raw)
    (bundle / "manifest.sig").write_bytes(shop.key.sign(raw))
    refused(run(bundle, shop, prefix), prefix, 1, value)


def test_a_wheel_outside_the_bundle_is_refused(bundle, shop, prefix):
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["release"]["agent_wheels"] = ["runtime/wheels/../../../x.whl"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    refused(run(bundle, shop, prefix), prefix, 4, "not that of a bundle for a robot")


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_file_that_is_no_public_key_is_refused(bundle, shop, prefix, tmp_path, content):
    (tmp_path / "no.pub").write_bytes(content)
    command = [PYTHON, bundle / "runtime/provision.py", "--key", tmp_path / "no.pub", "--prefix", prefix]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, input="yes\n")
    refused(result, prefix, 4, "no Ed25519 public key")


def test_without_openssl_somebody_must_say_that_it_was_verified(bundle, shop, prefix, tmp_path):
    (tmp_path / "bin").mkdir()
    path = str(tmp_path / "bin")
    refused(run(bundle, shop, prefix, path=path), prefix, 1, "--no-openssl")
    assert run(bundle, shop, prefix, "--no-openssl", path=path).returncode == 0


def test_a_robot_with_other_keys_keeps_them(bundle, shop, prefix, tmp_path):
    generate(tmp_path / "first.key", tmp_path / "first.pub")
    layout = Layout(prefix)
    layout.trust.parent.mkdir(parents=True)
    layout.trust.write_bytes(pinned([load_public(tmp_path / "first.pub")]).to_bytes())
    result = run(bundle, shop, prefix)
    assert result.returncode == 1
    assert "provisioned with other keys" in result.stderr
    assert [path.relative_to(prefix).as_posix() for path in prefix.rglob("*")] == ["etc", "etc/trust.json"]


def test_beside_an_installer_at_work_it_waits_for_nobody(bundle, shop, prefix):
    prefix.mkdir(parents=True)
    with Layout(prefix).lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = run(bundle, shop, prefix)
    assert result.returncode == 1
    assert "one installer at a time" in result.stderr
    assert [path.name for path in prefix.iterdir()] == ["lock"]


def test_a_full_disk_leaves_nothing(built, prefix, monkeypatch):
    """The last write fails: everything before it is taken back."""
    write = agent_files.write_file

    def full(path, raw, mode=0o644):
        if path.name == "trust.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, raw, mode)

    monkeypatch.setattr(agent_files, "write_file", full)
    wheels = [built.path / "runtime/wheels" / wheel.file for wheel in built.agent_wheels]
    with pytest.raises(OSError, match="No space left"):
        agent_files.provision(prefix, built.id, wheels, "a" * 16, "pem")
    assert not prefix.parent.exists()


def test_scripts_and_headers_of_a_wheel_are_left_out(tmp_path):
    more = {f"a-1.0.data/{name}": b"" for name in ("scripts/tool", "headers/a.h", "platlib/b/c.py")}
    agent_files.unpack_wheel(write_wheel(tmp_path, "a", files=more), tmp_path / "dest")
    names = {
        path.relative_to(tmp_path / "dest").as_posix() for path in (tmp_path / "dest").rglob("*") if path.is_file()
    }
    assert {name for name in names if ".dist-info/" not in name} == {"a/__init__.py", "b/c.py"}


def test_compiled_python_of_a_wheel_is_left_out(tmp_path):
    """NumPy's wheel has some; ours is written over it, and then it is no longer what its wheel holds."""
    path = write_wheel(tmp_path, "a", files={"a/__pycache__/__init__.cpython-310.pyc": b"old"})
    agent_files.unpack_wheel(path, tmp_path / "dest")
    assert not list((tmp_path / "dest").rglob("*.pyc"))


def test_a_wheel_whose_record_is_wrong_is_one_clear_error(tmp_path):
    path = write_wheel(tmp_path, "a")
    path.write_bytes(path.read_bytes().replace(b"The tiny a.", b"The tiny b."))
    with pytest.raises(BadInput, match=r"a-1\.0-py3-none-any\.whl: the wheel is wrong"):
        agent_files.unpack_wheel(path, tmp_path / "dest")
