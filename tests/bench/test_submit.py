"""A submission holds what is listed, nothing that says who or where; altered ones are refused; the table says whose."""

import json
import socket

import pytest
from typer.testing import CliRunner

from bench.benchmarks.page import submitted
from bench.cli import app
from bench.submit import board
from bench.submit.command import private
from bench.submit.document import MOST_BYTES, checked, packed, sha256_of
from edgevla.errors import BadInput, Refused
from tests.bench.test_verify import guard_document

CLI = CliRunner()
SHA = "ab" * 32


def guarded():
    host = {"cpu": "Cortex-A78AE", "arch": "aarch64", "kernel": "5.15.148-tegra", "packages": {"numpy": "2.2.6"}}
    around = {"schema": "edgevla.guard/1", "host": host | {"steal_s": 3.0, "serial": "1421"}, "load": "none",
              "bundle": {"name": "student", "sha256": SHA, "path": "/home/ann/b"}, "target": "jetson-orin-nano-8",
              "arm": "/home/ann/arm.toml", "memory": {}, "ladder": []}  # fmt: skip
    return {**guard_document(), **around}


def submission(**changes):
    found = packed(guarded(), "nano-8-desk", "a lab", SHA, {"power_mode": "15W", "temperatures_c": {"CPU 0": 44.0}})
    return {**found, **changes}


@pytest.fixture
def guard_file(tmp_path):
    path = tmp_path / "guard.json"
    path.write_text(json.dumps(guarded()))
    return path


def test_only_what_is_listed_goes_in():
    text = json.dumps(submission())
    assert all(word not in text for word in ("/home", "ann", "1421", "steal_s", "ladder"))
    assert submission()["arm"] == "(removed)"
    assert len(text) < MOST_BYTES


def test_it_is_shown_and_asked_for_before_it_is_written(guard_file, tmp_path):
    out = tmp_path / "a.submission.json"
    asked = ["submit", str(guard_file), "--by", "a lab", "--name", "nano-8-desk", "-o", str(out)]
    refused = CLI.invoke(app, asked, input="n\n")
    assert isinstance(refused.exception, Refused)
    assert "Cortex-A78AE" in refused.output
    assert not out.exists()
    assert CLI.invoke(app, asked, input="y\n").exit_code == 0
    assert CLI.invoke(app, ["submit", "--check", str(out)]).exit_code == 0
    assert checked(json.loads(out.read_text()))["target"]["name"] == "jetson-orin-nano-8"


def rehashed(document):
    return {**document, "sha256": sha256_of(document)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(by="b lab"), "its hash"),
        (lambda d: d["stages"]["wake"].update(p99_us=1.0), "stages.wake.p99_us"),
        (lambda d: d["claims"][0].update(value_us=1.0), "claims"),
        (lambda d: d["host"].update(kernel="/home/ann/linux"), "host.kernel"),
        (lambda d: d["host"].update(name="desk"), "host"),
        (lambda d: d.update(more=1), "its parts"),
        (lambda d: d["bundle"].update(sha256="ab"), "hashes of bundle and target"),
        (lambda d: d["stages"]["wake"].update(hdr="x" * 70_000), "stages.wake.hdr"),
        (lambda d: d["stages"]["wake"].update(hdr="no histogram"), "no HDR histogram"),
        (lambda d: d.update(schema="edgevla.guard/1"), "schema"),
        (lambda d: d.pop("stages"), "its parts"),
        (lambda d: d.update(claims=3), "its parts"),
    ],
)
def test_an_altered_one_is_refused_and_says_where(change, said):
    document = submission()
    change(document)
    if said != "its hash":
        document = rehashed(document)
    with pytest.raises(BadInput, match=said):
        checked(document)


def test_an_oversized_file_is_not_read(tmp_path):
    path = tmp_path / "b.submission.json"
    path.write_text(" " * (MOST_BYTES + 1))
    result = CLI.invoke(app, ["submit", "--check", str(path)])
    assert isinstance(result.exception, BadInput)
    assert "too large" in str(result.exception)


def test_this_machines_name_is_found_before_it_is_written(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "anns-desk")
    with pytest.raises(Refused, match="host name"):
        private('{"by": "anns-desk"}')
    private('{"by": "a lab"}')


def test_the_table_says_whose_it_is_and_that_we_did_not_reproduce_it(tmp_path):
    assert "None yet" in submitted(tmp_path)
    (tmp_path / "a.submission.json").write_text(json.dumps(submission()))
    assert "by a lab, not reproduced by us" in submitted(tmp_path)
    assert "jetson-orin-nano-8, 15W | wake" in submitted(tmp_path)
    (tmp_path / "a.submission.json").write_text(json.dumps(submission(by="else")))
    with pytest.raises(BadInput, match="its hash"):
        submitted(tmp_path)


def test_the_board_is_read_from_sysfs(tmp_path):
    for path, text in (("class/thermal/thermal_zone0/type", "cpu-thermal\n"),
                       ("class/thermal/thermal_zone0/temp", "44500"),
                       ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1510400")):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    told = board.environment(tmp_path)
    assert told["temperatures_c"] == {"cpu-thermal 0": 44.5}
    assert told["cpu_mhz"] == {"cpu0": 1510.4}
    assert told["cpu_mhz_most"] == {"cpu0": None}
