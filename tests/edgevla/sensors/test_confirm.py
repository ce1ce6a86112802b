"""A confirmation holds for one bundle, one camera and one device; nothing else passes."""

import json
import stat
import sys
from pathlib import Path

import pytest

from edgevla.bundle import write_bundle
from edgevla.errors import BadInput, Refused
from edgevla.sensors.confirm import confirm, confirmed, manifest_sha256, require_confirmed, state_file, view_sha256

sys.path.insert(0, str(Path(__file__).parent))

from scenes import write_bundle_with_frames

DEVICES = {"front": "v4l2:usb-1:2:A@1-1#0", "wrist": "v4l2:usb-1:2:B@1-2#0"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle_with_frames(tmp_path_factory.mktemp("bundle") / "two.bundle")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_bundle_with_frames(tmp_path_factory.mktemp("bundle") / "two.bundle", frames=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "edgevla" / "cameras.json"


def test_a_camera_that_nobody_confirmed_is_refused_with_the_command_to_type(bundle, path):
    with pytest.raises(Refused) as caught:
        require_confirmed(bundle, DEVICES, {"front": "v4l2:/dev/video0"}, path)
    command = (
        f"edgevla camera check --bundle {bundle.path} --camera front=v4l2:/dev/video0 --camera wrist=SOURCE --confirm"
    )
    assert "camera front is not confirmed" in str(caught.value)
    assert command in str(caught.value)


def test_confirmed_cameras_pass(bundle, path):
    confirm(bundle, DEVICES, path)
    require_confirmed(bundle, DEVICES, path=path)
    require_confirmed(bundle, {"front": DEVICES["front"]}, path=path)


def test_a_confirmation_holds_for_its_bundle_only(bundle, other, path):
    confirm(bundle, DEVICES, path)
    assert manifest_sha256(bundle) != manifest_sha256(other)
    with pytest.raises(Refused, match="never confirmed"):
        require_confirmed(other, DEVICES, path=path)


def retrained(bundle, tmp_path, picture=None):
    """The same cameras in another bundle; `picture` replaces the training frame of `front`."""
    files = {name: (bundle.path / name).read_bytes() for name in bundle.manifest.files}
    files |= {} if picture is None else {"cameras/front.png": picture}
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    for key in ("schema", "files"):
        del manifest[key]
    return write_bundle(tmp_path / "next.bundle", {**manifest, "name": "next"}, files)


def test_an_upgrade_with_the_same_training_frame_is_not_asked_again(bundle, tmp_path, path):
    confirm(bundle, DEVICES, path)
    upgrade = retrained(bundle, tmp_path)
    assert manifest_sha256(bundle) != manifest_sha256(upgrade)
    require_confirmed(upgrade, DEVICES, path=path)
    with pytest.raises(Refused, match="confirmed was v4l2:usb-1:2:A@1-1#0"):
        require_confirmed(upgrade, {"front": "v4l2:new"}, path=path)


def test_of_two_devices_for_the_same_view_the_newer_confirmation_counts(bundle, tmp_path, path):
    confirm(bundle, DEVICES, path)
    upgrade = retrained(bundle, tmp_path)
    confirm(upgrade, {"front": "v4l2:new"}, path)
    later = retrained(upgrade, tmp_path / "later")
    assert view_sha256(later, "front") == view_sha256(bundle, "front")
    require_confirmed(later, {"front": "v4l2:new"}, path=path)
    with pytest.raises(Refused, match="confirmed was v4l2:new"):
        require_confirmed(later, {"front": DEVICES["front"]}, path=path)


def test_another_training_frame_is_another_view(bundle, tmp_path, path):
    confirm(bundle, DEVICES, path)
    other_frame = retrained(bundle, tmp_path, (bundle.path / "cameras/wrist.png").read_bytes())
    with pytest.raises(Refused, match="front is not confirmed"):
        require_confirmed(other_frame, DEVICES, path=path)


def test_another_device_in_its_place_is_refused_naming_both(bundle, path):
    confirm(bundle, DEVICES, path)
    with pytest.raises(Refused, match="v4l2:new; confirmed was v4l2:usb-1:2:A@1-1#0"):
        require_confirmed(bundle, {"front": "v4l2:new"}, path=path)


def test_two_cameras_that_changed_places_are_refused(bundle, path):
    confirm(bundle, DEVICES, path)
    with pytest.raises(Refused, match="front is not confirmed"):
        require_confirmed(bundle, {"front": DEVICES["wrist"], "wrist": DEVICES["front"]}, path=path)


def test_one_device_cannot_stand_for_two_cameras(bundle, path):
    with pytest.raises(Refused, match="one device"):
        require_confirmed(bundle, {"front": "x", "wrist": "x"}, path=path)


def test_a_later_confirmation_replaces_the_earlier(bundle, path):
    confirm(bundle, DEVICES, path)
    confirm(bundle, {"front": "v4l2:new"}, path)
    require_confirmed(bundle, {"front": "v4l2:new", "wrist": DEVICES["wrist"]}, path=path)
    assert len(confirmed(path)) == 2


def test_the_file_is_for_its_owner_only_and_lies_alone(bundle, path):
    confirm(bundle, DEVICES, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["cameras.json"]


def test_a_failure_leaves_the_old_file_whole(bundle, path, monkeypatch):
    confirm(bundle, DEVICES, path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        confirm(bundle, {"front": "v4l2:new"}, path)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["cameras.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "edgevla.cameras/2", "confirmed": []}',
        '{"schema": "edgevla.cameras/1", "confirmed": [], "more": 1}',
        '{"schema": "edgevla.cameras/1", "confirmed": [{"camera": "a", "device": "b"}]}',
        '{"schema": "edgevla.cameras/1", "confirmed": [{"manifest_sha256": "0", "camera": "a", "device": "b"}]}',
        " " * 1_048_577,
    ],
)
def test_a_damaged_file_is_refused_by_name_and_not_overwritten(bundle, path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(BadInput, match=r"cameras\.json"):
        confirm(bundle, DEVICES, path)
    assert path.read_text() == text


def test_an_empty_list_is_no_damage(path):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": "edgevla.cameras/1", "confirmed": []}))
    assert confirmed(path) == {}


def test_only_the_newest_thousand_are_kept(bundle, path):
    confirm(bundle, {f"c{i}": "x" for i in range(1100)}, path)
    names = [name for _, name in confirmed(path)]
    assert (len(names), names[0], names[-1]) == (1000, "c100", "c1099")


def test_the_state_folder_is_the_one_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_file() == tmp_path / "edgevla/cameras.json"
    for nothing in ("", "relative/path"):  # the XDG specification has relative paths ignored
        monkeypatch.setenv("XDG_STATE_HOME", nothing)
        monkeypatch.setenv("HOME", "/home/user")
        assert state_file() == Path("/home/user/.local/state/edgevla/cameras.json")
