"""log/deploy.jsonl: one deploy at a time is read from it, torn lines are passed over, it does not grow for ever."""

from __future__ import annotations

import json
from pathlib import Path

from edgevla.install.deploy_log import MAX_BYTES, DeployLog, lines_of, new_deploy


def test_the_newest_deploy_is_read_and_an_older_one_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "log" / "deploy.jsonl"
    assert lines_of(path) == []
    first = new_deploy(path)
    DeployLog(path, first).write({"step": 1})
    second = new_deploy(path)
    assert second != first
    for step in (1, 2):
        DeployLog(path, second).write({"step": step})
    assert [line["step"] for line in lines_of(path)] == [1, 2]
    assert [line["step"] for line in lines_of(path, first)] == [1]
    assert {"boot_s", "unix_s"} <= set(lines_of(path)[0])


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "deploy.jsonl"
    DeployLog(path, "a").write({"step": 1})
    with path.open("ab") as file:
        file.write(b'{"deploy": "a", "st\n[1]\n\x00\xff\n')
    DeployLog(path, "a").write({"step": 2})
    assert [line["step"] for line in lines_of(path)] == [1, 2]


def test_it_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "deploy.jsonl"
    path.write_bytes((json.dumps({"deploy": "old", "text": "x" * 1000}).encode() + b"\n") * (MAX_BYTES // 1000))
    name = new_deploy(path)
    assert not path.exists()
    assert path.with_name("deploy.jsonl.1").stat().st_size > MAX_BYTES
    DeployLog(path, name).write({"step": 1})
    assert len(lines_of(path)) == 1
