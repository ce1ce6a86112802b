"""What `edgevla compress` refuses before it loads torch or spends time."""

import subprocess
import sys

import pytest

from edgevla.cli.main import run_command
from edgevla.errors import BadInput
from export.request import Request, TeacherAsk, require_files
from tests.export.tiny import write_counting_dataset, write_teacher

PATIENCE_S = 400.0  # a safety net for a busy machine, not a measurement


@pytest.fixture
def request_of(tmp_path):
    """A request whose files are all there; takes the bundle's path."""
    write_teacher(tmp_path / "teacher")
    write_counting_dataset(tmp_path / "data")

    def build(out):
        teacher = TeacherAsk(str(tmp_path / "teacher"))
        return Request(teacher, str(tmp_path / "data"), out, tmp_path / "work", "10s", 0, 1)

    return build


def typed(request, *options):
    """The request as a command line."""
    return ["compress", request.teacher.where, "--data", request.data, "-o", str(request.out), *options]


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_bundle_in_a_folder_that_can_be_made_is_taken_and_nothing_is_left(request_of, tmp_path):
    before = listing(tmp_path)
    require_files(request_of(tmp_path / "new" / "folder" / "x.bundle"))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("out", ["/dev/null/x.bundle", "/dev/null/deep/x.bundle", "/proc/x.bundle"])
def test_a_bundle_that_nobody_can_write_is_refused_at_once(request_of, capsys, out):
    assert run_command(typed(request_of(out))) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert f"no bundle can be written to {out}" in told.err
    assert "choose another -o" in told.err


def test_something_else_in_the_bundle_s_place_is_refused_at_once(request_of, tmp_path):
    (tmp_path / "x.bundle").write_text("mine")
    with pytest.raises(BadInput, match="in the way"):
        require_files(request_of(tmp_path / "x.bundle"))


@pytest.mark.parametrize("name", ["teacher/config.json", "teacher/model.safetensors", "data/dataset.json"])
def test_a_missing_file_is_told_before_the_time_that_it_would_take(request_of, tmp_path, capsys, name):
    (tmp_path / name).unlink()
    assert run_command(typed(request_of(tmp_path / "x.bundle"))) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert name.split("/")[1] in told.err
    assert "no such file" in told.err


@pytest.mark.parametrize("option", ["--seed", "--processes", "--examples"])
def test_a_negative_number_is_exit_code_2(request_of, tmp_path, capsys, option):
    assert run_command(typed(request_of(tmp_path / "x.bundle"), option, "-1")) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert option in told.err


def test_a_seed_that_torch_cannot_take_is_exit_code_2(request_of, tmp_path):
    assert run_command(typed(request_of(tmp_path / "x.bundle"), "--seed", str(2**64))) == 2


@pytest.mark.parametrize("options", [["--budget", "7"], ["--mode", "magic"], ["--examples", "1"], []])
def test_what_is_wrong_is_told_without_loading_torch(tmp_path, options):
    arguments = ["compress", "no-teacher", "--data", "no-data", "-o", "x.bundle", *options]
    code = (
        "import sys; from edgevla.cli.main import run_command;"
        f"code = run_command({arguments!r}); sys.exit(70 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, timeout=PATIENCE_S)
    assert done.returncode == (2 if options else 4), done.stderr
