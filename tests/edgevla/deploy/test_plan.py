"""What one line means: typed values, deploy.toml, and never a silent guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevla.cli.main import run_command
from edgevla.deploy.destination import Destination, parse_destination
from edgevla.deploy.local import choose
from edgevla.deploy.plan import plan_install, plan_look
from edgevla.deploy.probe import check_prefix, parse_probe
from edgevla.deploy.remembered import Remembered, encode, read, recall, remember, user_file
from edgevla.errors import BadInput, DeviceFault, Usage
from tests.acting_release import write_release
from tests.edgevla.deploy.conftest import Desk

NANO = Remembered("robot@10.0.0.5", "/data/out", "/data/release.pub")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("robot@192.168.1.20", Destination("192.168.1.20", "robot")),
        ("jetson", Destination("jetson")),
        ("jetson.local:2222", Destination("jetson.local", None, 2222)),
        ("me@[fe80::1%eth0]:22", Destination("fe80::1%eth0", "me", 22)),
    ],
)
def test_an_address_is_read_as_typed(text: str, expected: Destination) -> None:
    assert parse_destination(text) == expected
    assert parse_destination(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "a b", "me@", "h:0", "h:99999", "h:22x", "$(x)", "me:pw@host"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="--host is no address"):
        parse_destination(text)


def test_a_password_in_an_address_is_never_printed() -> None:
    with pytest.raises(Usage) as caught:
        parse_destination("me:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["/opt/edgevla", "/srv/a.b/c-d"])
def test_a_plain_prefix_is_taken(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "prefix", ["", "/", "opt", "/opt/../etc", "/opt/a b", "/opt/$(x)", "/opt/;x", "/opt//x", "/-x"]
)
def test_a_prefix_that_a_shell_could_read_otherwise_is_refused(prefix: str) -> None:
    with pytest.raises(BadInput, match="--prefix"):
        check_prefix(prefix)


def test_a_shell_that_prints_before_is_understood_and_another_system_is_refused() -> None:
    said = "Welcome!\nuid=1000\narch=aarch64\npython=3.10\nagent=yes\nwritable=no\nsudo=free\ntar=yes\n"
    probe = parse_probe(said)
    assert (probe.python, probe.needs_sudo, probe.sudo) == ((3, 10), True, "free")
    with pytest.raises(DeviceFault, match="Linux"):
        parse_probe("'uname' is not recognized")


def test_what_is_remembered_is_read_again_and_the_rest_stays() -> None:
    path = user_file()
    assert remember(path, "jetson-orin", NANO)
    assert remember(path, 'odd "name"\x7f', Remembered(host="a"))
    assert not remember(path, "jetson-orin", NANO)
    assert read(path) == {"jetson-orin": NANO, 'odd "name"\x7f': Remembered(host="a")}
    assert path.read_text() == encode(read(path))


def test_the_file_of_the_working_folder_comes_first_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    remember(user_file(), "jetson-orin", NANO)
    Path("deploy.toml").write_text('[targets.jetson-orin]\nhost = "lab"\nbundle = "out"\n')
    known, file = recall("jetson-orin")
    assert known == Remembered("lab", "out")
    assert file == Path("deploy.toml")
    assert recall("host") == (Remembered(), None)


@pytest.mark.parametrize(
    "text", ["x", "[targets]\na = 1", "[targets.a]\nhosts = 'x'", "[targets.a]\nhost = 1", "a = 1"]
)
def test_a_wrong_deploy_toml_is_one_error_that_names_it(text: str) -> None:
    Path("deploy.toml").write_text(text)
    with pytest.raises(BadInput, match=r"deploy\.toml is wrong"):
        recall("a")


def test_one_line_is_enough_after_the_first_deploy() -> None:
    remember(user_file(), "jetson-orin", NANO)
    for plan in (plan_install(Remembered(), "jetson-orin"), plan_install(Remembered(), "")):
        assert plan.reach().where == Destination("10.0.0.5", "robot")
        assert plan.reach().prefix == "/opt/edgevla"
        assert plan.bundle() == Path("/data/out")
        assert plan.targets[:2] == ("jetson-orin", "jetson-agx-orin-64")
        assert f"host robot@10.0.0.5, bundle /data/out, key /data/release.pub (from {user_file()})" == plan.taken()


def test_what_is_typed_comes_before_the_file() -> None:
    remember(user_file(), "jetson-orin", NANO)
    plan = plan_install(Remembered(host="other", bundle="two.tar.zst"), "jetson-orin")
    assert plan.reach().where.host == "other"
    assert plan.bundle() == Path("two.tar.zst")
    assert plan.taken() == f"key /data/release.pub (from {user_file()})"


def test_what_was_typed_is_all_that_counts_where_nothing_is_remembered() -> None:
    remember(user_file(), "jetson-orin", NANO)
    plan = plan_install(Remembered(host="other", bundle="two.tar.zst"), "jetson-orin", remembers=False)
    assert (plan.key(), plan.taken(), plan.remembers) == (None, "", False)
    assert plan.targets[0] == "jetson-orin"
    with pytest.raises(Usage, match="which robot"):
        plan_install(Remembered(), "jetson-orin", remembers=False).reach()
    with pytest.raises(Usage, match="which target"):
        plan_install(Remembered(), "", remembers=False)


def test_nothing_is_guessed_where_nothing_was_said() -> None:
    with pytest.raises(Usage, match="which target"):
        plan_install(Remembered(), "")
    for name in ("jetson-orin", "host"):
        remember(user_file(), name, NANO)
    with pytest.raises(Usage, match=r"deploy\.toml knows host, jetson-orin"):
        plan_look(Remembered(), "")
    with pytest.raises(Usage, match="which bundle"):
        plan_install(Remembered(host="a"), "raspberry-pi-5").bundle()
    with pytest.raises(Usage, match="which robot"):
        plan_look(Remembered(), "raspberry-pi-5").reach()
    assert plan_look(Remembered(host="a"), "").reach().where == Destination("a")


def test_of_a_folder_of_bundles_the_highest_counter_for_the_target_is_taken(tmp_path: Path, desk: Desk) -> None:
    for name, counter, more in (("a", 3, {}), ("b", 12, {}), ("c", 99, {"target": "raspberry-pi-5"})):
        write_release(tmp_path / "out" / f"{name}.bundle", desk.key, counter, **more)
    (tmp_path / "out" / "damaged.bundle").mkdir()
    assert choose(tmp_path / "out", ("host",)).name == "b.bundle"
    assert choose(tmp_path / "out" / "a.bundle", ("host",)).name == "a.bundle"
    assert plan_install(Remembered(bundle=str(tmp_path / "out" / "c.bundle")), "").target == "raspberry-pi-5"
    with pytest.raises(BadInput, match="got:      none"):
        choose(tmp_path / "out", ("jetson-orin",))
    write_release(tmp_path / "out" / "twin.bundle", desk.key, 12, {"another": True})
    with pytest.raises(BadInput, match=r"b\.bundle, twin\.bundle"):
        choose(tmp_path / "out", ("host",))
    with pytest.raises(BadInput, match="is not there"):
        choose(tmp_path / "none", ("host",))


@pytest.mark.parametrize("words", [[], ["install"], ["status"], ["releases"], ["rollback"], ["gc"], ["logs"]])
def test_every_command_shows_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["deploy", *words, "--help"]) == 0
    assert "Example: edgevla deploy" in " ".join(capsys.readouterr().out.split())


def test_a_word_that_is_no_command_is_a_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["deploy", "none.tar.zst", "--target", "host", "--host", "robot"]) == 4
    assert "none.tar.zst is not there" in capsys.readouterr().err
    assert run_command(["deploy", "--target", "host"]) == 2
    assert "which robot" in capsys.readouterr().err
    assert run_command(["deploy", "--offline", "none.tar.zst"]) == 4
    assert run_command(["deploy", "status", "--target", "host"]) == 2


def test_a_bundle_that_is_not_there_or_a_misspelt_command_is_said_before_a_target_is_missed() -> None:
    with pytest.raises(BadInput, match="staus is not there"):
        plan_install(Remembered(bundle="staus"), "")
