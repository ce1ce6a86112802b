"""A task sequence: read strictly, and a pure clock of what is due."""

from pathlib import Path

import pytest

from edgevla.control.ladder import Phase
from edgevla.errors import BadInput
from edgevla.operate.tasks import TaskClock, check_words, read_sequence
from edgevla.operate.wish import Kind
from edgevla.policy.tokens import Vocabulary

EXAMPLE = Path(__file__).parents[3] / "examples" / "standalone" / "tasks.toml"
TWO = '[[task]]\nsay = "open"\nduration_s = 2\npause_s = 1\n\n\n  [[task]]\nsay = "close"\nduration_s = 4.0\n'


@pytest.fixture
def read(tmp_path):
    def reader(text: str):
        path = tmp_path / "tasks.toml"
        path.write_text(text)
        return read_sequence(path)

    return reader


def due(sequence, elapsed_s):
    moment = sequence.at(elapsed_s)
    return None if moment is None else (moment.task.say, moment.resting, moment.turn, pytest.approx(moment.left_s))


def test_tasks_and_pauses_follow_each_other_and_the_end_is_the_end(read):
    once = read(TWO)
    assert once.total_s == 7.0
    assert due(once, 0.0) == ("open", False, 0, 2.0)
    assert due(once, 1.9) == ("open", False, 0, 0.1)
    assert due(once, 2.0) == ("open", True, 0, 1.0)
    assert due(once, 3.0) == ("close", False, 0, 4.0)
    assert due(once, 6.999) == ("close", False, 0, 0.001)
    assert due(once, 7.0) is None


def test_a_sequence_repeats_as_often_as_it_says_and_drops_the_last_pause(read):
    twice = read("repeat = 2\n" + TWO + "pause_s = 5\n")
    assert twice.total_s == 19.0
    assert due(twice, 7.0) == ("close", True, 0, 5.0)
    assert due(twice, 12.0) == ("open", False, 1, 2.0)
    assert due(twice, 19.0) is None


def test_forever_has_no_end(read):
    sequence = read('repeat = "forever"\n' + TWO)
    assert sequence.total_s is None
    assert due(sequence, 7_000_000_002.5) == ("open", True, 1_000_000_000, 0.5)


def test_every_moment_of_a_turn_has_its_task(read):
    """No gap by rounding: durations that binary fractions do not hold, over many turns."""
    sequence = read('repeat = "forever"\n[[task]]\nsay = "open"\nduration_s = 0.1\npause_s = 0.7\n')
    assert all(sequence.at(step * 0.1) is not None for step in range(20_000))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["`task` is wrong", "[[task]]"]),
        ("task = []", ["`task` is wrong", "1 to 256"]),
        ("[[task]]\nsay = 1\nduration_s = 1", ["task 1 (line 1)", "`say`"]),
        ('[[task]]\nsay = "a\\u0007"\nduration_s = 1', ["task 1 (line 1)", "`say`", "printable"]),
        (TWO + "speed = 2", ["task 2 (line 7)", "`speed`", "unknown key"]),
        (TWO.replace("4.0", "nan"), ["task 2 (line 7)", "`duration_s`"]),
        (TWO.replace("4.0", "0"), ["task 2 (line 7)", "`duration_s`", "0.1"]),
        (TWO.replace("pause_s = 1", "pause_s = -1"), ["task 1 (line 1)", "`pause_s`"]),
        (TWO.replace("duration_s = 2\n", ""), ["task 1 (line 1)", "`duration_s`", "missing"]),
        ("repeat = 0\n" + TWO, ["`repeat`", '"forever"']),
        ("repeat = true\n" + TWO, ["`repeat`", '"forever"']),
        ('repeat = "twice"\n' + TWO, ["`repeat`", "'twice'"]),
        ("repeats = 2\n" + TWO, ["`repeats`", "unknown key"]),
        ("[[task]\n", ["no TOML", "line 1"]),
        ('task = [1, {say = "a", duration_s = 1}]', ["task 1", "a table"]),
        ("#" * (256 * 1024 + 1), ["262144 bytes at most"]),
    ],
)
def test_a_file_that_is_wrong_says_where(read, text, parts):
    with pytest.raises(BadInput) as error:
        read(text)
    assert "tasks.toml" in str(error.value)
    for part in parts:
        assert part in str(error.value), str(error.value)


def test_a_file_that_is_missing_or_no_text_says_so(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read_sequence(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="no TOML"):
        read_sequence(tmp_path / "bytes.toml")


def test_an_unknown_word_is_found_before_anything_moves_and_names_its_task(read):
    encode = Vocabulary(("open", "the", "drawer"), 8).encode
    check_words(read(TWO.replace("close", "open the drawer")), encode)
    with pytest.raises(BadInput, match=r"task 2 \(line 7\): `say` is wrong: instruction outside the vocabulary"):
        check_words(read(TWO), encode)


def test_the_example_is_a_sequence():
    sequence = read_sequence(EXAMPLE)
    assert [task.say for task in sequence.tasks] == ["open the drawer", "close the drawer"]
    assert sequence.repeat is None


def follow(clock, looks):
    """(kind, instruction) of every wish, for looks of (seconds, phase)."""
    said = []
    for seconds, phase in looks:
        clock, wish = clock.look(phase, int(seconds * 1e9))
        if wish is not None:
            said.append((wish.kind, wish.instruction))
    return said


def test_the_clock_starts_with_the_arming_and_says_each_thing_once(read):
    looks = [(100.0, Phase.DISARMED), (200.0, Phase.START), *((200.0 + 0.05 * i, Phase.TRACK) for i in range(1, 200))]
    assert follow(TaskClock(read(TWO)), looks) == [
        *[(Kind.INSTRUCT, "open"), (Kind.REST, ""), (Kind.INSTRUCT, "close"), (Kind.QUIT, "")],
    ]


@pytest.mark.parametrize("phase", [None, Phase.DISARMED, Phase.LATCHED, Phase.TORQUE])
def test_a_latch_ends_the_sequence_and_arming_begins_it_again(read, phase):
    looks = [
        (0.0, Phase.START),
        (3.5, Phase.TRACK),
        (4.0, phase),
        (4.5, phase),
        (60.0, Phase.START),
        (61.0, Phase.TRACK),
    ]
    assert follow(TaskClock(read(TWO)), looks) == [
        *[(Kind.INSTRUCT, "open"), (Kind.INSTRUCT, "close"), (Kind.INSTRUCT, "open")],
    ]


def test_a_sequence_never_arms(read):
    phases = [None, *Phase]
    kinds = {kind for kind, _ in follow(TaskClock(read(TWO)), [(i * 0.3, phases[i % 8]) for i in range(400)])}
    assert Kind.ARM not in kinds
