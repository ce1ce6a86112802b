"""Recorded episodes: the error is in joint units, the budget is declared, and the replay is the loop of the robot."""

import json
from dataclasses import replace

import numpy as np
import pytest

import profiles
from edgevla.bundle import open_bundle
from edgevla.control.schedule import Schedule
from edgevla.errors import BadInput, Unsound, Usage
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.setpoints import integrate
from edgevla.sim.lockstep import Loop
from export.channels import ACTION_SCALE
from export.distill.source import pick
from export.eval.budget import Budget, read_budget
from export.eval.error import Meaning, compare, judge, measure
from export.eval.record import Record, open_record
from export.eval.replay import delays_of, recorded_setpoints, replay, seam_jumps, start_of, with_delay
from export.eval.selection import AS_SAID, KEPT_OUT, TRAINED_ON, frames_of, select
from tests.export.eval.edgevla_eval import edgevla_eval
from tests.export.tiny import LENGTHS, write_counting_dataset
from tests.tiny_bundle import HORIZON, write_tiny_bundle

D, R = 2, 8


@pytest.fixture(scope="module")
def manifest(tiny_bundle_path):
    return open_bundle(tiny_bundle_path).manifest


def a_record(lengths=(60, 50), words=("open the drawer", "open the window")):
    """Each tick moves 1 mm in x; the gripper closes half-way through an episode; the label is the next tick's."""
    n = sum(lengths)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    executed = np.zeros((n, 4))
    executed[:, 0] = 0.001
    for first, end in zip(starts, ends, strict=True):
        executed[first:end, 3] = np.where(np.arange(end - first) < (end - first) // 2, -1.0, 1.0)
    state = np.zeros((n, 4), np.float32)
    state[:, 1:3] = 0.6, 0.2
    episodes = tuple((int(a), int(b)) for a, b in zip(starts, ends, strict=True))

    def instruction(tick):
        return words[int(np.searchsorted(ends, tick, side="right")) % len(words)]

    names = ("hand_x", "hand_y", "hand_z", "gripper")
    pixels = np.zeros((96, 96, 3), np.uint8)
    cameras = {"corner": "corner"}
    return Record(
        "made", "0" * 64, state, executed, executed, names, episodes, instruction, cameras,
        lambda tick: {"corner": pixels + tick},
    )  # fmt: skip


class Knower:
    """Says what the record says next, plus an error per channel in normalised units."""

    def __init__(self, record, off=(0, 0, 0, 0)):
        self.record, self.off, self.asked, self.prefixes = record, np.array(off, np.float32), [], []

    def set_instruction(self, text):
        self.words = text

    def infer(self, images, state, prefix):
        tick = int(images["corner"][0, 0, 0])
        self.asked.append((tick, self.words))
        self.prefixes.append(prefix)
        _, end = next((a, b) for a, b in self.record.episodes if a <= tick < b)
        rows = np.minimum(tick + np.arange(HORIZON), end - 1)
        return (self.record.executed[rows] / ACTION_SCALE + self.off).astype(np.float32)

    def to_setpoints(self, chunk, anchor, d):
        low, high = np.array([-0.5, 0.4, 0.05, -1], np.float32), np.array([0.5, 1, 0.5, 1], np.float32)
        return integrate(chunk * ACTION_SCALE, anchor, d, np.array([True, True, True, False]), low, high)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr("export.eval.error.LEAST_FRAMES", 10)


def found_with(record, manifest, int8, fp32):
    ticks = frames_of(record, select(record, "0-1"), D + R, 50)
    return measure(record, ticks, manifest, Knower(record, int8), Knower(record, fp32), D, R)


def test_a_policy_that_says_what_was_done_has_no_error(few, manifest):
    found = found_with(a_record(), manifest, (0,) * 4, (0,) * 4)
    assert found.shipped.channels["x"].maximum < 1e-7
    assert (found.shipped.flips, found.graphs.flips, found.frames) == (0.0, 0.0, 50)


def test_an_error_per_tick_adds_up_over_the_rows_that_act_and_is_told_in_joint_units(few, manifest):
    found = found_with(a_record(), manifest, (0.1, 0, 0, 0), (0,) * 4)
    x = found.graphs.channels["x"]  # 0.1 x 1 cm per tick over 8 acting ticks: 8 mm at the last
    assert (x.p50, x.maximum) == pytest.approx((0.008, 0.008), rel=1e-4)
    assert found.graphs.channels["y"].maximum == 0
    assert found.shipped.channels["x"].p50 == pytest.approx(0.008, rel=1e-4)
    assert found.fp32.channels["x"].maximum < 1e-7


def test_the_prefix_is_what_was_commanded_in_the_ticks_that_are_committed(few, manifest):
    record = a_record()
    knower = Knower(record)
    measure(record, np.arange(20), manifest, knower, Knower(record), D, R)
    for (tick, words), prefix in zip(knower.asked, knower.prefixes, strict=True):
        np.testing.assert_allclose(prefix, record.executed[tick : tick + D] / ACTION_SCALE, rtol=1e-6)
        assert words == "open the drawer"


def test_a_gripper_told_the_other_thing_is_a_flip_and_one_near_the_middle_is_none(manifest):
    meaning = Meaning(manifest.channels)
    told = np.zeros((1, 3, 4))
    told[0, :, 3] = -0.9, 0.05, 0.9
    other = told.copy()
    other[0, :, 3] = 0.9, -0.05, 0.9
    assert meaning.flips(told, other).tolist() == [[True, False, False]]
    assert compare(meaning, told, other).flips == pytest.approx(1 / 3)


def test_a_gripper_that_is_told_how_far_to_move_flips_where_it_is_told_the_other_way(manifest):
    gripper = replace(manifest.channels[3], kind="delta", minimum=0.0, maximum=1.0)
    meaning = Meaning((gripper,))
    told, other = np.array([[[0.2], [0.3], [0.01]]]), np.array([[[-0.2], [0.1], [-0.01]]])
    assert meaning.flips(told, other).tolist() == [[True, False, False]]


def test_an_offset_is_added_to_what_the_policy_says_and_taken_from_its_prefix(few, manifest):
    """A gripper in 0 .. 0.08 m whose normalised actions are -1 .. 1."""
    record = a_record()
    record.executed[:, 3] = 0.04 + 0.04 * record.executed[:, 3]
    width = replace(manifest.channels[3], scale=0.04, offset=0.04, minimum=0.0, maximum=0.08)
    plain = Knower(a_record())
    ticks = np.arange(20, 36)
    found = measure(record, ticks, replace(manifest, channels=(*manifest.channels[:3], width)), plain, plain, D, R)
    assert found.shipped.channels["gripper"].maximum == pytest.approx(0, abs=1e-8)
    assert found.shipped.flips == 0
    assert {float(value) for prefix in plain.prefixes for value in prefix[:, 3]} == {-1.0, 1.0}


def test_fewer_frames_than_a_p99_needs_are_not_measured(manifest):
    with pytest.raises(Unsound, match="at least 300"):
        found_with(a_record(), manifest, (0,) * 4, (0,) * 4)


def test_the_budget_is_in_shares_of_the_range_and_in_units_where_it_says_so(few, manifest):
    found = found_with(a_record(), manifest, (0.1, 0, 0, 0), (0,) * 4)
    checks = {check.what: check for check in judge(found, manifest, Budget(p99=0.01))}
    x = checks["x: bundle against FP32, p99"]
    assert (x.limit, x.unit, x.kept) == (pytest.approx(0.01), "m", True)  # 1 % of 1 m, 8 mm got
    own = {check.what: check for check in judge(found, manifest, Budget(channels={"x": {"p99": 0.005}}))}
    assert not own["x: bundle against FP32, p99"].kept
    assert own["y: bundle against FP32, p99"].kept
    assert not checks["x: error against the record, bundle over FP32, p50"].kept  # FP32 has none at all


def test_an_error_that_is_no_number_is_not_kept(few, manifest):
    found = found_with(a_record(), manifest, (np.nan, 0, 0, 0), (0,) * 4)
    assert not {c.what: c.kept for c in judge(found, manifest, Budget())}["x: bundle against FP32, max"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("p99 = 1", "schema"),
        ('schema = "edgevla.action-budget/1"\np98 = 1', "p98"),
        ('schema = "edgevla.action-budget/1"\np99 = "little"', "p99"),
        ('schema = "edgevla.action-budget/1"\np99 = nan', "p99"),
        ('schema = "edgevla.action-budget/1"\n[channel.x]\np50 = 1', "channel.x.p50"),
        ("p99 = ", "TOML"),
    ],
)
def test_a_budget_that_is_wrong_names_its_key(tmp_path, text, named):
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(BadInput, match=named):
        read_budget(tmp_path / "b.toml")


def test_a_budget_is_read_and_a_channel_that_is_not_there_is_refused(tmp_path, few, manifest):
    text = 'schema = "edgevla.action-budget/1"\nflips = 0.5\n[channel.wrist]\nmax = 0.1'
    (tmp_path / "b.toml").write_text(text)
    budget = read_budget(tmp_path / "b.toml")
    assert (budget.flips, budget.p99, budget.channels) == (0.5, Budget.p99, {"wrist": {"max": 0.1}})
    with pytest.raises(BadInput, match="wrist"):
        judge(found_with(a_record(), manifest, (0,) * 4, (0,) * 4), manifest, budget)


# --- which episodes ---


def timed_dataset(folder):
    """The counting dataset with the period that `examples.metaworld.demos` writes."""
    path = write_counting_dataset(folder) / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "period_s": 0.0125}))
    return folder


def test_the_last_share_of_each_instruction_is_held_out():
    record = a_record((30,) * 20)  # even episodes open the drawer, odd ones the window
    picked = select(record, share=0.2)
    assert (picked.numbers, picked.note) == ((16, 17, 18, 19), AS_SAID)
    assert select(record, "0-2,5").numbers == (0, 1, 2, 5)
    for wrong in ("a", "3-", "-1"):
        with pytest.raises(Usage):
            select(record, wrong)
    with pytest.raises(BadInput, match="0 to 19"):
        select(record, "20")
    with pytest.raises(Usage):
        select(record, share=0.0)
    with pytest.raises(Usage, match="one of them"):
        select(record, "1", 0.1)


def test_without_a_word_those_are_taken_that_compress_keeps_out_of_training():
    record = a_record((30,) * 21)
    picked = select(record)
    assert (picked.numbers, picked.note) == ((0, 10, 20), KEPT_OUT)
    trained = pick(np.random.default_rng(0), np.repeat([first for first, _ in record.episodes], 30), 5000, held=False)
    assert not set(picked.numbers) & set((trained // 30).tolist())


def test_fewer_than_ten_episodes_were_all_trained_on_and_it_says_so():
    picked = select(a_record((30,) * 9))
    assert (picked.numbers, picked.note) == ((7, 8), TRAINED_ON)
    assert "trained on these" in picked.note


def test_frames_lie_in_the_selected_episodes_with_their_acting_rows_behind_them():
    record = a_record((30, 40))
    ticks = frames_of(record, select(record, "1"), 10, 1000)
    assert ticks.tolist() == list(range(30, 60))
    with pytest.raises(BadInput, match="longer than 40"):
        frames_of(record, select(record, "1"), 40, 10)


def test_our_demonstrations_are_a_record_in_the_units_of_the_channels(tmp_path, manifest):
    record = open_record(timed_dataset(tmp_path / "data"), manifest, tmp_path / "work")
    assert record.episodes == ((0, 50), (50, 90), (90, 135))
    assert record.executed[7].tolist() == pytest.approx([0.07, 0.07, 0.07, 7.0])
    assert record.label[7].tolist() == pytest.approx([10.07, 10.07, 10.07, 1007.0])
    assert record.images(8)["corner"].shape == (96, 96, 3)
    assert sum(sum(lengths) for lengths in LENGTHS.values()) == len(record.state)


def test_a_record_of_another_rate_or_robot_is_refused(tmp_path, tiny_bundle_path):
    folder = timed_dataset(tmp_path / "data")
    slow = write_tiny_bundle(tmp_path / "slow.bundle", timing={"period_s": 0.05}).manifest
    with pytest.raises(BadInput, match="period of the record"):
        open_record(folder, slow, tmp_path)
    manifest = open_bundle(tiny_bundle_path).manifest
    other = replace(manifest, channels=(replace(manifest.channels[0], name="wrist"), *manifest.channels[1:]))
    with pytest.raises(BadInput, match="action channels"):
        open_record(folder, other, tmp_path)


# --- replay ---

LOOP = Loop(
    schedule=Schedule(horizon=HORIZON, delay=D, replan=R, survive=2),
    arm=profiles.load_arm("metaworld-sawyer"),
    period_s=0.0125,
    kinds=("delta", "delta", "delta", "absolute"),
    scale=(0.01, 0.01, 0.01, 1.0),
    offset=(0.0, 0.0, 0.0, 0.0),
)


def test_a_policy_that_says_what_was_done_is_late_by_d_ticks_and_by_nothing_else(manifest):
    record = a_record()
    played = replay(Knower(record), record, 0, manifest, LOOP)
    assert played.commanded.shape == (60, 4)
    off = played.departure[:, 0]
    assert off[0] == pytest.approx(0.001, abs=1e-6)  # it holds, the record moves
    # After the release it moves as recorded: d ticks behind, and while it gets up to speed within its limits.
    assert off[-1] == pytest.approx(off[20], abs=1e-5)
    assert D * 0.001 - 1e-5 <= off[-1] <= (D + 4) * 0.001
    assert played.instruction == "open the drawer"


def test_chunks_that_agree_have_no_seam_and_chunks_that_do_not_have_their_difference(manifest):
    record = a_record()
    smooth = replay(Knower(record), record, 1, manifest, LOOP)
    assert smooth.seams.shape == (5, 4)  # asked at 0, 8, .. 40; the one of 48 would act at 50, after the end
    assert smooth.seams[:, 3].max() < 1e-6

    class Doubter(Knower):
        def infer(self, images, state, prefix):
            chunk = super().infer(images, state, prefix)
            chunk[:, 3] = -0.5 if len(self.asked) % 2 else 0.25
            return chunk

    assert replay(Doubter(record), record, 1, manifest, LOOP).seams[:, 3] == pytest.approx([0.75] * 5)


def test_the_seam_is_between_the_two_rows_of_one_tick():
    chunks = [np.arange(32, dtype=np.float32)[:, None], np.arange(100, 132, dtype=np.float32)[:, None]]
    # the second was asked for r = 8 ticks later: its row 2 and row 10 of the first belong to the same tick
    assert seam_jumps(chunks, delay=2, replan=8, channels=1).tolist() == [[102 - 10]]
    assert seam_jumps(chunks[:1], 2, 8, 1).shape == (0, 1)


def test_the_observations_of_a_replay_are_those_of_the_record(manifest):
    record = a_record()
    knower = Knower(record)
    replay(knower, record, 1, manifest, LOOP)
    assert knower.asked == [(60 + k, "open the window") for k in range(0, 50, R)]


def test_a_policy_of_three_observations_sees_the_ticks_before_and_none_of_another_episode(manifest):
    record = a_record()
    knower = Knower(record)
    replay(knower, record, 1, replace(manifest, observations=3), LOOP)
    assert [tick for tick, _ in knower.asked][:7] == [60, 66, 67, 68, 74, 75, 76]
    assert [len(prefix) for prefix in knower.prefixes][:4] == [D, 0, 0, D]


def test_recorded_set_points_are_summed_from_the_state_and_stay_in_range(manifest):
    record = a_record()
    start = start_of(record, 0, manifest)
    assert start.tolist() == pytest.approx([0.0, 0.6, 0.2, -1.0])
    rows = recorded_setpoints(np.array([[0.3, 0, 0, 1], [0.3, 0, 0, -1], [-0.1, 0, 0, 0]]), start, manifest.channels)
    assert rows[:, 0].tolist() == pytest.approx([0.3, 0.5, 0.4])
    assert rows[:, 3].tolist() == [1, -1, 0]
    unnamed = replace(record, state_names=("a", "b", "c", "d"))
    with pytest.raises(BadInput, match="one state named x"):
        start_of(unnamed, 0, manifest)


def test_every_d_that_schedule_and_training_allow_is_measured(manifest):
    assert delays_of(LOOP, manifest) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert with_delay(LOOP, 5).schedule.delay == 5


# --- the command ---


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The counting dataset, small enough to stay in the range of the channels."""
    folder = timed_dataset(tmp_path_factory.mktemp("data"))
    for path in folder.glob("*.npz"):
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
        for key in ("state", "executed", "expert"):
            arrays[key] = (arrays[key] % 7 / 10).astype(np.float32)
        np.savez(path, **arrays)
    return folder


def test_eval_prints_writes_a_report_and_keeps_its_budget(tiny_bundle_path, dataset, tmp_path, capsys, few):
    """The tiny bundle carries the same graphs twice: no error between them."""
    report = tmp_path / "deep" / "r.json"
    arguments = (tiny_bundle_path, "--data", dataset, "--held-out", 1, "--report", report)
    assert edgevla_eval(*arguments) == 0
    shown = capsys.readouterr().out
    assert "bundle against the record" in shown
    assert "BROKEN" not in shown
    told = json.loads(report.read_text())
    assert told["kept"]
    assert told["frames"] == 135 - 3 * (D + R)
    assert told["bundle_vs_fp32"]["channels"]["x"]["maximum"] == 0
    assert edgevla_eval(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["record"] == told["record"]


def test_eval_ends_with_1_where_a_budget_is_broken(tiny_bundle_path, dataset, tmp_path, capsys, few):
    budget = tmp_path / "b.toml"
    budget.write_text('schema = "edgevla.action-budget/1"\n[channel.z]\nrecorded_p99 = 0.0')
    arguments = (tiny_bundle_path, "--data", dataset, "--held-out", 1, "--report", tmp_path / "r.json")
    assert edgevla_eval(*arguments, "--budget", budget) == 1
    shown = capsys.readouterr()
    assert "z: bundle against the record, p99" in shown.err
    assert not json.loads((tmp_path / "r.json").read_text())["kept"]
    assert edgevla_eval(*arguments, "--budget", budget, "--p99", 0.5) == 2


def test_a_replay_is_labelled_open_loop_and_has_a_row_per_episode_and_per_d(
    tiny_bundle_path, dataset, tmp_path, capsys
):
    arguments = (tiny_bundle_path, "--data", dataset, "--held-out", 1, "--replay", "--report", tmp_path / "r.json")
    assert edgevla_eval(*arguments) == 0
    assert "OPEN LOOP" in capsys.readouterr().out
    told = json.loads((tmp_path / "r.json").read_text())
    assert "does not react" in told["label"]
    assert [part["ticks"] for part in told["episodes"]] == [50, 40, 45]
    assert [part["d"] for part in told["seams"]] == list(range(1, 9))
    assert PolicyEngine(open_bundle(tiny_bundle_path)).stages()


def test_too_few_frames_and_a_wrong_call_have_their_exit_codes(tiny_bundle_path, dataset, tmp_path):
    report = ("--report", tmp_path / "r.json")
    assert edgevla_eval(tiny_bundle_path, "--data", dataset, *report) == 3
    assert edgevla_eval(tiny_bundle_path, *report) == 2
    assert edgevla_eval(tiny_bundle_path, tiny_bundle_path, "--data", dataset, *report) == 2
    assert edgevla_eval(tiny_bundle_path, "--data", tmp_path, *report) == 4
    assert not (tmp_path / "r.json").exists()
