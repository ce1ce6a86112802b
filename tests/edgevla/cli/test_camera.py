"""`edgevla camera` as it is called, with real camera processes that play recordings."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgevla.bundle import open_bundle
from edgevla.cli import main
from edgevla.cli.camera import app
from edgevla.errors import Refused
from edgevla.sensors.confirm import confirmed, require_confirmed

sys.path.insert(0, str(Path(__file__).parents[1] / "sensors"))

from cameras import write_pictures
from scenes import gripper, table, write_bundle_with_frames


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle_with_frames(tmp_path_factory.mktemp("bundle") / "two.bundle").path


@pytest.fixture
def film(tmp_path):
    """Sources that show what the bundle was trained with."""

    def make(name, picture):
        return f"file:{write_pictures(tmp_path / name, [picture])},loop"

    return make


@pytest.fixture
def camera(tmp_path, monkeypatch, capsys):
    """`edgevla camera ...` with answers typed; the state folder is the test's own."""
    entry = SimpleNamespace(name="camera", value="edgevla.cli.camera:app", load=lambda: app)
    monkeypatch.setattr(main, "_entries", lambda: [entry])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def call(*arguments, typed=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main.run_command(["camera", *map(str, arguments)])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return call


def check(camera, bundle, *arguments, **options):
    return camera("check", "--bundle", bundle, "--settle-s", "0.1", *arguments, **options)


def test_cameras_in_their_places_are_right_and_confirmed_by_hand(camera, bundle, film, tmp_path):
    sources = [f"front={film('a', table(5))}", f"wrist={film('b', gripper(5))}"]
    page = tmp_path / "cameras.html"
    options = [word for source in sources for word in ("--camera", source)]
    done = check(camera, bundle, *options, "--confirm", "--json", "--html", page, typed="y\nn\n")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["kept"], told["wrong"]) == (True, [])
    assert [told["cameras"][name]["confirmed"] for name in ("front", "wrist")] == [True, False]
    assert told["cameras"]["front"]["compared"]["similarity"] > 0.9
    assert "is this the same view?" in done.stderr
    assert page.read_text().count("data:image/png;base64,") == 4
    path = tmp_path / "state/edgevla/cameras.json"
    devices = {name: told["cameras"][name]["device"] for name in told["cameras"]}
    assert set(confirmed(path).values()) == {devices["front"]}
    require_confirmed(open_bundle(bundle), {"front": devices["front"]}, path=path)
    with pytest.raises(Refused, match="camera wrist is not confirmed"):
        require_confirmed(open_bundle(bundle), devices, path=path)


def test_swapped_cameras_are_said_and_refused(camera, bundle, film):
    done = check(
        camera, bundle, "--camera", f"front={film('a', gripper(5))}", "--camera", f"wrist={film('b', table(5))}"
    )
    assert done.returncode == 1
    assert "cameras front and wrist are exchanged" in done.stdout
    assert "front: it shows the view of camera wrist" in done.stderr
    assert "▀" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_camera_that_may_be_absent_may_be_left_out_and_colours_are_told(camera, bundle, film):
    done = check(camera, bundle, "--camera", f"front={film('a', table(5)[..., ::-1])}", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["wrong"] == ["front: red and blue are exchanged"]


def test_an_answer_that_is_not_given_confirms_nothing(camera, bundle, film, tmp_path):
    done = check(camera, bundle, "--camera", f"front={film('a', table())}", "--confirm", typed="")
    assert done.returncode != 0
    assert not (tmp_path / "state").exists()


def test_another_size_is_one_error_that_names_it(camera, bundle, film):
    done = check(camera, bundle, "--camera", f"front={film('a', table()[:40])}")
    assert done.returncode == 4
    assert "64 x 40" in done.stderr
    assert "64 x 64 at 40 Hz" in done.stderr


@pytest.mark.parametrize(
    ("cameras", "text"),
    [
        ([], "front, wrist (may be absent)"),
        (["wrist=csi:0"], "front, wrist (may be absent)"),
        (["front=csi:0", "other=csi:1"], "front, wrist (may be absent)"),
        (["front"], "NAME=SOURCE"),
        (["front=usb:1"], "v4l2:PATH"),
    ],
)
def test_cameras_that_are_not_those_of_the_bundle_are_a_wrong_call(camera, bundle, cameras, text):
    done = check(camera, bundle, *(word for one in cameras for word in ("--camera", one)))
    assert done.returncode == 2
    assert text in done.stderr


def test_a_camera_that_is_not_there_is_a_device_fault(camera, bundle):
    done = check(camera, bundle, "--camera", "front=v4l2:/dev/video99")
    assert done.returncode == 5
    assert "/dev/video99" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_without_frames_says_that_nothing_was_compared(camera, film, tmp_path):
    bundle = write_bundle_with_frames(tmp_path / "two.bundle", frames=False).path
    done = check(camera, bundle, "--camera", f"front={film('a', table())}")
    assert done.returncode == 0
    assert "no training frame" in done.stdout


def test_list_is_a_table_or_json(camera):
    told = json.loads(camera("list", "--json").stdout)
    assert set(told) == {"cameras"}
    assert all(set(one) == {"source", "device", "name", "offers"} for one in told["cameras"])
    assert camera("list").returncode == 0


def test_help_has_an_example(camera):
    for words in (["--help"], ["list", "--help"], ["check", "--help"]):
        assert "Example: edgevla camera" in camera(*words).stdout
