"""The cache of a teacher's answers: nothing twice, nothing half, nothing of another teacher."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput
from export.distill.cache import ShardRows, TargetCache, key_of

IDENTITY = {"teacher": "a" * 64, "dataset": "b" * 64, "recipe": {"seed": 7, "flow_steps": 10}}


def rows(questions, ticks=None):
    """Row `q` answers q, seen at a tick whose features are 100 + tick; two questions per tick unless told."""
    ticks = ticks or [q // 2 for q in questions]
    value, tick = torch.tensor(questions, dtype=torch.float32), torch.tensor(ticks)
    return ShardRows(
        keys=[key_of(question=q) for q in questions],
        answers={"endpoint": value[:, None, None].expand(-1, 3, 2).contiguous()},
        seen=[key_of(tick=t) for t in ticks],
        observations={"features": (100 + tick)[:, None].expand(-1, 5).to(torch.bfloat16), "tick": tick},
    )


def endpoints(cache):
    kept = cache.rows()
    return kept.take(range(len(kept)))["endpoint"][:, 0, 0].tolist()


def test_rows_come_back_with_their_observation_in_the_order_asked(tmp_path):
    cache = TargetCache(tmp_path, IDENTITY)
    assert cache.add(rows([0, 1, 2, 3])) == 4
    assert cache.add(rows([4, 5, 6])) == 3
    asked = [5, 0, 3]
    taken = TargetCache(tmp_path, IDENTITY).rows([key_of(question=q) for q in asked]).take([0, 1, 2, 0])
    assert taken["endpoint"][:, 2, 1].tolist() == [5, 0, 3, 5]
    assert taken["features"].dtype == torch.bfloat16
    assert taken["features"][:, 4].tolist() == [102, 100, 101, 102]


def test_a_row_that_is_there_is_not_asked_for_again(tmp_path):
    cache = TargetCache(tmp_path, IDENTITY)
    cache.add(rows([0, 1, 2]))
    keys = [key_of(question=q) for q in (2, 3, 0, 3, 4)]
    assert cache.missing(keys) == [key_of(question=3), key_of(question=4)]
    assert cache.add(rows([2, 3, 3])) == 1
    assert cache.add(rows([2, 3])) == 0
    assert endpoints(cache) == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("rows-*"))) == 2


def test_an_observation_is_stored_once_within_a_shard_and_across_shards(tmp_path):
    cache = TargetCache(tmp_path, IDENTITY)
    cache.add(rows([0, 1, 2], ticks=[9, 9, 9]))
    assert cache.unseen([key_of(tick=9), key_of(tick=8)]) == [key_of(tick=8)]
    cache.add(rows([3, 4], ticks=[9, 8]))
    shards = json.loads((tmp_path / "manifest.json").read_text())["shards"]
    assert [(s["rows"], s["observations"]) for s in shards] == [(3, 1), (2, 1)]
    cache.add(rows([5], ticks=[8]))  # a shard without any observation
    assert cache.rows([key_of(question=5)]).take([0])["tick"].tolist() == [8]


def test_two_processes_add_to_one_folder(tmp_path):
    one, two = TargetCache(tmp_path, IDENTITY), TargetCache(tmp_path, IDENTITY)
    one.add(rows([0, 1]))
    assert two.add(rows([1, 2])) == 1
    assert endpoints(two) == [0, 1, 2]
    assert one.missing([key_of(question=2)]) == []


def test_rows_of_another_teacher_dataset_or_recipe_are_refused(tmp_path):
    TargetCache(tmp_path, IDENTITY).add(rows([0]))
    other = {**IDENTITY, "recipe": {"seed": 8, "flow_steps": 10}}
    with pytest.raises(BadInput, match=r"(?s)identity.*recipe differ"):
        TargetCache(tmp_path, other)


@pytest.mark.parametrize("harm", ["altered", "cut", "gone"])
def test_a_damaged_shard_is_missing_and_made_again(tmp_path, harm):
    cache = TargetCache(tmp_path, IDENTITY)
    cache.add(rows([0, 2]))
    cache.add(rows([4, 5]))
    cache.add(rows([1]))  # its observation stands in the first shard
    first = tmp_path / json.loads((tmp_path / "manifest.json").read_text())["shards"][0]["file"]
    data = first.read_bytes()
    first.unlink()
    if harm != "gone":
        first.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if harm == "altered" else data[:-9])
    again = TargetCache(tmp_path, IDENTITY)
    assert again.damaged == (first.name,)
    assert endpoints(again) == [4, 5]
    assert again.missing([key_of(question=q) for q in range(6)]) == [key_of(question=q) for q in (0, 1, 2, 3)]
    assert again.add(rows([0, 1, 2, 3])) == 4
    assert sorted(endpoints(TargetCache(tmp_path, IDENTITY))) == [0, 1, 2, 3, 4, 5]


def test_a_shard_that_no_manifest_lists_is_not_taken(tmp_path):
    made = TargetCache(tmp_path / "made", IDENTITY)
    made.add(rows([0, 1]))
    stray = next((tmp_path / "made").glob("rows-*"))
    cache = TargetCache(tmp_path / "here", IDENTITY)
    (tmp_path / "here" / stray.name).write_bytes(stray.read_bytes())
    assert len(TargetCache(tmp_path / "here", IDENTITY)) == 0
    cache.add(rows([7]))
    assert not (tmp_path / "here" / stray.name).exists()


@pytest.mark.parametrize("file", ["manifest.json", "rows-"])
def test_a_full_disk_leaves_the_cache_as_it_was(tmp_path, monkeypatch, file):
    """/dev/full answers every write with ENOSPC: the temporary file of the shard, or of the manifest, leads there."""
    cache = TargetCache(tmp_path, IDENTITY)
    cache.add(rows([0, 1]))
    monkeypatch.setattr(Path, "open", _full(Path.open, file))
    with pytest.raises(BadInput, match=r"(?s)No space left on device.*2 rows there stay good"):
        cache.add(rows([2, 3]))
    monkeypatch.undo()
    assert not list(tmp_path.glob(".part-*"))
    for same in (cache, TargetCache(tmp_path, IDENTITY)):
        assert endpoints(same) == [0, 1]
    assert cache.add(rows([2, 3])) == 2


def _full(real, file):
    def opened(path, mode="r", *more):
        return real(Path("/dev/full") if path.name.startswith(".part-") and file in path.name else path, mode, *more)

    return opened


KILLED = """
import sys, pathlib
from export.distill.cache import TargetCache
from tests.export.distill.test_cache import IDENTITY, rows
cache = TargetCache(pathlib.Path(sys.argv[1]), IDENTITY)
print("started", flush=True)
for first in range(0, 10**6, 8):
    cache.add(rows(list(range(first, first + 8))))
"""


def test_a_kill_in_the_middle_leaves_a_sound_cache(tmp_path):
    root = Path(__file__).parents[3]
    for least in (0, 3):  # shards there before the kill: at any moment of the first, and later
        job = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, stdout=subprocess.PIPE)
        assert job.stdout.readline() == b"started\n"
        time.sleep(0.03)
        while len(list(tmp_path.glob("rows-*"))) < least:
            time.sleep(0.001)
        job.send_signal(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        cache = TargetCache(tmp_path, IDENTITY)
        assert cache.damaged == ()
        kept = endpoints(cache) if len(cache) else []
        assert kept == list(range(len(kept)))
        assert len(kept) % 8 == 0
    assert len(kept) > 0
    assert cache.add(rows([10**6])) == 1
    assert not list(tmp_path.glob(".part-*"))


def test_rows_that_are_not_finite_or_do_not_fit_together_are_refused(tmp_path):
    cache = TargetCache(tmp_path, IDENTITY)
    bad = rows([0, 1])
    bad.answers["endpoint"][1, 0, 0] = float("nan")
    with pytest.raises(BadInput, match="finite numbers in answers endpoint"):
        cache.add(bad)
    good = rows([0, 1])
    with pytest.raises(BadInput, match="2 rows of every tensor"):
        cache.add(ShardRows(good.keys, {"endpoint": good.answers["endpoint"][:1]}, good.seen, good.observations))
    cache.add(good)
    with pytest.raises(BadInput, match="tensors as in it"):
        cache.add(ShardRows([key_of(q=9)], {"endpoint": torch.zeros(1, 7, 2)}, [key_of(t=9)], rows([0]).observations))
    assert endpoints(cache) == [0, 1]


def test_a_manifest_that_is_none_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema": "edgevla.target-cache/0"}')
    with pytest.raises(BadInput, match="schema"):
        TargetCache(tmp_path, IDENTITY)
    (tmp_path / "manifest.json").write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(BadInput, match=r"manifest\.json is not valid JSON"):
        TargetCache(tmp_path, IDENTITY)


def test_rows_that_are_missing_are_said_so(tmp_path):
    cache = TargetCache(tmp_path, IDENTITY)
    cache.add(rows([0]))
    with pytest.raises(BadInput, match="1 missing"):
        cache.rows([key_of(question=0), key_of(question=1)])


def test_a_key_tells_value_type_and_name_apart():
    keys = [
        key_of(a=1, b=2),
        key_of(a=12),
        key_of(a="1", b=2),
        key_of(b=1, a=2),
        key_of(a=np.zeros(4, np.float32)),
        key_of(a=np.zeros((2, 2), np.float32)),
        key_of(a=torch.zeros(4)),
        key_of(a=torch.zeros(4, dtype=torch.bfloat16)),
        key_of(a=b"1"),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(b=2, a=1) == keys[0] == key_of(a=np.int64(1), b=2)
