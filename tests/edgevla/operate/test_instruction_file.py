"""The instruction file: whole lines are taken, parts never."""

import os

import pytest

from edgevla.errors import BadInput
from edgevla.operate.instruction_file import MAX_BYTES, Heard, InstructionFile, Seen, decide, due, text_of


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "instruction"
    path.write_text("open the drawer\n")
    watched = InstructionFile(path)
    assert watched.first() == "open the drawer"
    return watched


def looks(watched, count=4):
    return [heard for heard in (watched.poll() for _ in range(count)) if heard is not None]


def test_a_file_that_stays_says_nothing(file):
    assert looks(file) == []


def test_a_renamed_file_is_heard_once(file):
    new = file.path.with_suffix(".new")
    new.write_text("close the drawer\n")
    os.replace(new, file.path)
    assert file.poll() is None  # first look: it may still change
    assert file.poll() == Heard(instruction="close the drawer")
    assert looks(file) == []


def test_a_line_written_piece_by_piece_is_taken_only_when_it_is_whole(file):
    with file.path.open("w") as writer:
        for part in ("close", " the", " drawer"):
            writer.write(part)
            writer.flush()
            assert file.poll() is None
        writer.write("\n")
    assert looks(file) == [Heard(instruction="close the drawer")]


def test_a_writer_that_rests_in_the_middle_of_a_line_is_told_and_then_heard(file):
    with file.path.open("w") as writer:
        writer.write("close the")
        writer.flush()
        (heard,) = looks(file)
        assert "no newline at the end" in heard.error
        assert heard.instruction == ""
        writer.write(" drawer\n")
    assert looks(file) == [Heard(instruction="close the drawer")]


def test_a_file_that_is_gone_says_nothing_and_the_same_words_again_are_no_news(file):
    file.path.unlink()
    assert looks(file) == []
    file.path.write_text("open the drawer\n")
    assert looks(file) == []


@pytest.mark.parametrize("content", [b"", b"\n", b" \n", b"open\nclose\n", b"\xff\n", b"a\x07\n", b"x" * 401 + b"\n"])
def test_content_that_is_no_instruction_is_said_once(file, content):
    file.path.write_bytes(content)
    (heard,) = looks(file)
    assert "holds no instruction" in heard.error


def test_a_large_file_is_not_read_to_its_end(file):
    file.path.write_bytes(b"x" * 10_000_000)
    (heard,) = looks(file)
    assert f"more than {MAX_BYTES} bytes" in heard.error


def test_a_pipe_under_that_name_never_holds_the_run(file):
    file.path.unlink()
    os.mkfifo(file.path)
    assert all(heard.error for heard in looks(file))


def test_the_detector_waits_for_two_equal_looks():
    seen = Seen(mark=(1, 5, 10))
    assert not due(seen, (1, 6, 11))
    assert not due(seen, None)
    assert due(seen, (1, 5, 10))
    after, heard = decide(seen, (1, 5, 10), b"open\n")
    assert heard == Heard(instruction="open")
    assert not due(after, (1, 5, 10))


def test_a_run_does_not_begin_without_an_instruction(tmp_path):
    with pytest.raises(BadInput, match="no instruction file"):
        InstructionFile(tmp_path / "none").first()
    (tmp_path / "half").write_text("open the")
    with pytest.raises(BadInput, match="no newline"):
        InstructionFile(tmp_path / "half").first()
    assert text_of(b"  open the drawer \n") == "open the drawer"
