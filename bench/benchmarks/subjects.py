"""What each committed result says, as lines of docs/benchmarks.md. Pure."""

from __future__ import annotations

from bench.benchmarks.row import (
    BOUNDED,
    COUNTED,
    INTERVAL,
    OBSERVED,
    Json,
    Row,
    Subject,
    plain,
    ratio,
    share,
    three,
    whole,
)
from bench.report.text import LATENCIES
from bench.verify.recount import interleaved


def latency(found: Json) -> list[Row]:
    figures = found["figures"]
    rows = [
        _ms(LATENCIES.get(name, name), told) for name, told in interleaved(figures["latencies_ns"]).summary().items()
    ]
    return rows + [_ratio(one) for one in figures["ratios"]]


def engines(found: Json) -> list[Row]:
    rows = [_ms(name, told) for name, told in found["summary"].items()]
    return rows + [_ratio(one) for one in found["figures"].values()]


def smolvla(found: Json) -> list[Row]:
    rows = [_ms(name, told) for name, told in found["latency"].items()]
    return rows + [_ratio(one) for one in found["ratios"]]


def _ms(name: str, told: Json) -> Row:
    return Row(f"{name}, p50 / p99", three(told, "ms", ("p50_ms", "p99_ms")), whole(told["n"]),
               f"{plain(told['max_ms'])} ms", OBSERVED)  # fmt: skip


def _ratio(one: Json) -> Row:
    return Row(f"{one['slow']} over {one['fast']}", ratio(one), f"{whole(one['rounds'])} rounds", "-", INTERVAL)


def success(found: Json) -> list[Row]:
    said, looks = found["success"], found["sequential"]["looks"]
    fresh, last = said["teacher_fresh"], looks[-1]
    halves = {"halfway_teacher": "teacher", "halfway_int8": "int8", "blank_words": "blank words"}
    played = {
        name: sum(row["episodes"] for row in found["halfway"] if row["model"].endswith(model))
        for name, model in halves.items()
    }
    rows = [
        Row("teacher, fresh scenes", share(fresh["mean"]), whole(fresh["episodes"]), "-", OBSERVED),
        Row(f"int8 against its teacher: {found['sequential']['decision']}", f"loss <= {share(last['upper_bound'])}",
            f"{whole(last['pairs'])} pairs", "-", "bounded at 95 %, repeated looks"),
    ]  # fmt: skip
    rows += [Row(f"half-way scenes, {model}", share(said[name]), whole(played[name]), "-", OBSERVED)
             for name, model in halves.items() if said.get(name) is not None]  # fmt: skip
    controls = {"distilled": "student, distilled", "demos_only": "demonstrations alone", "without_z": "without z"}
    rows += [Row(title, share(said[name]), whole(found["control_episodes"]), "-", OBSERVED)
             for name, title in controls.items() if said.get(name) is not None]  # fmt: skip
    return rows


def delay(found: Json) -> list[Row]:
    rows = [
        Row(f"{cell['way']} at {cell['delay']} ticks", share(cell["success"]), whole(cell["episodes"]), "-", OBSERVED)
        for cell in found["cells"]
        if cell["way"] in ("zero", "ours", "newest", "think")
    ]
    goal = found.get("goal")
    if goal:
        value = f"{share(goal['loss'])} ({share(goal['loss_low95'])} to {share(goal['loss_high95'])})"
        rows.append(Row("loss of ours at 4 ticks against none", value, f"{whole(goal['pairs'])} pairs", "-", INTERVAL))
    return rows


def wake(found: Json) -> list[Row]:
    rows = []
    for row in found["rows"]:
        name, pooled = f"{row['rate_hz']} Hz, {row['load']}", row["pooled"]["ours"]
        count, largest = whole(pooled["count"]), f"{whole(pooled['max_us'])} us"
        rows.append(Row(f"{name}: wake, p50 / p99 / p99.9", three(pooled), count, largest, OBSERVED))
        if pooled["p999_bound_us"] is not None:
            value = f"p99.9 <= {whole(pooled['p999_bound_us'])} us"
            rows.append(Row(f"{name}: wake, were samples independent", value, count, largest, BOUNDED))
        theirs = row["pooled"]["cyclictest"]
        rows.append(Row(f"{name}: cyclictest", three(theirs), whole(theirs["count"]), f"{whole(theirs['max_us'])} us",
                        OBSERVED))  # fmt: skip
    for row in found["bus"]:
        first = row["first_byte"]
        rows.append(Row(f"{row['rate_hz']} Hz with a bus: first byte", three(first), whole(first["count"]),
                        f"{whole(first['max_us'])} us", OBSERVED))  # fmt: skip
    return rows


def soak(found: Json) -> list[Row]:
    ticks, bounds = whole(found["ticks"]), found["late_share"]
    rows = [Row(name.replace("_", " "), whole(found[name]), ticks, "-", COUNTED)
            for name in ("late_commands", "expired_commands", "misses")]  # fmt: skip
    for key, title, samples in (("bound_if_independent", "were ticks independent", ticks),
                                ("bound_by_effective_samples", "by effective samples",
                                 whole(found["effective_samples"]))):  # fmt: skip
        value = "-" if bounds[key] is None else f"<= {bounds[key]:.2e}"
        rows.append(Row(f"share of late commands, {title}", value, samples, "-", BOUNDED))
    for key in ("wake", "first_byte"):
        told = found[key]
        rows.append(Row(f"{key.replace('_', ' ')} after deadline, p50 / p99 / p99.9", three(told), whole(told["count"]),
                        f"{whole(told['max_us'])} us", OBSERVED))  # fmt: skip
    return rows


def steady(found: Json) -> list[Row]:
    ticks = whole(found["ticks"])
    return [Row(name.replace("_", " "), whole(found[name]), f"{ticks} steps", f"limit {whole(limit)}", COUNTED)
            for name, limit in found["limits"].items()]  # fmt: skip


def guard(found: Json) -> list[Row]:
    rows = []
    for claim in found["claims"]:
        kind = claim["kind"] if claim["confidence"] is None else f"{claim['kind']} at {100 * claim['confidence']:g} %"
        verdict = {True: "kept", False: "**BROKEN**", None: "not judged"}[claim["kept"]]
        limit = "" if claim["limit_us"] is None else f" <= {plain(claim['limit_us'])} us"
        samples = whole(claim["samples"]) if claim["samples"] else "-"
        stage = found["stages"].get(claim["stage"])
        largest = "-" if stage is None else f"{plain(stage['max_us'])} us"
        rows.append(Row(f"{claim['name']}: {verdict}", f"{plain(claim['value_us'])} us{limit}", samples, largest, kind))
    return rows


def bus(found: Json) -> list[Row]:
    rows = []
    for row in found["rows"]:
        ours, name = row["paced"]["ours"], f"{row['protocol']} x{row['joints']}"
        rows.append(Row(f"{name}: host's share, p50 / p99", three(ours, "us", ("host_us_p50", "host_us_p99")),
                        whole(ours["cycles"]), "-", OBSERVED))  # fmt: skip
        for what, one in row["unpaced"]["ratios"].items():
            rows.append(Row(f"{name}: {what} of {row['peer']} over ours", ratio(one),
                            f"{whole(row['unpaced']['rounds'])} rounds", "-", INTERVAL))  # fmt: skip
    return rows


def faults(found: Json) -> list[Row]:
    rows, commands = found["rows"], whole(sum(row["samples"] for row in found["rows"]))
    return [
        Row("faults put in", whole(len(rows)), "-", "-", COUNTED),
        *(Row(title, whole(sum(row[key] for row in rows)), f"{commands} commands", "-", COUNTED)
          for key, title in (("late_commands", "late commands"), ("out_of_limit_commands", "beyond limits"))),
        *_stops(rows),
    ]  # fmt: skip


def _stops(rows: list[Json]) -> list[Row]:
    stops = [row["stop_ms"] for row in rows if row["stop_ms"] is not None]
    return [Row("time to rest", "-", whole(len(stops)), f"{plain(max(stops))} ms", OBSERVED)] if stops else []


def powercut(found: Json) -> list[Row]:
    return [Row(key.replace("_", " "), whole(found[key]), "-", "-", COUNTED)
            for key in ("calls", "points", "boots", "kills", "releases_lost")]  # fmt: skip


def teacher_memory(found: Json) -> list[Row]:
    return [Row(f"{name}: loaded", f"{plain(row['loaded']['rss'] / 1e6)} MB", "1",
                f"{plain(max(row['loading_peak']['rss'], row['loading_peak']['hwm']) / 1e6)} MB", OBSERVED)
            for name, row in found["rows"].items()]  # fmt: skip


def peers(found: Json) -> list[Row]:
    from bench.peers.table import table

    counts = [
        row.get("rounds") or (row.get("deviation") or row.get("wake") or {}).get("count") for row in found["rows"]
    ]
    tops = [f"{plain(row['max_ms'])} ms" if "max_ms" in row else "-" for row in found["rows"]]
    rows = []
    for cells, count, top in zip(table(found["rows"]), counts, tops, strict=True):
        what, peer, threads, times, ours, *_, note = cells
        cores = f", {threads} thread{'s' * (threads != '1')}" if threads else ""
        name = f"{what}: {peer}{cores}{f' ({note})' if note else ''}"
        value = times if ours in ("", "-", "1") else f"{times}; {ours} times ours"
        rows.append(Row(name, value, whole(count), top, OBSERVED if ours in ("", "-", "1") else INTERVAL))
    return rows


def scaling(found: Json) -> list[Row]:
    rows = []
    for axis in found["axes"]:
        law, wall = axis["power_law"], axis["wall"]
        value = (
            "no power law" if law is None else f"exponent {law['exponent']:.2f} ({law['low']:.2f} to {law['high']:.2f})"
        )
        where = "-" if wall["value"] is None else f"wall at {wall['value']:g}{', continued' if wall['beyond'] else ''}"
        rows.append(
            Row(f"{axis['cost']} against {axis['axis']}", value, f"{len(axis['points'])} points", where, INTERVAL)
        )
    return rows


def arm64(found: Json) -> list[Row]:
    vectors = whole(found["bundle"]["vectors"])
    return [Row(f"{name}, of its tolerance", share(row["of_tolerance"]), f"{vectors} vectors",
                f"{row['error']:.2g}", OBSERVED)
            for name, row in found["against_recorded"].items()]  # fmt: skip


def lerobot(found: Json) -> list[Row]:
    largest = max(row["difference"] for row in found["rows"])
    return [
        Row("difference of actions to LeRobot", "-", f"{whole(len(found['rows']))} tests", f"{largest:.2g}", OBSERVED)
    ]


def deploy(found: Json) -> list[Row]:
    return [
        Row("redeploy without a change", f"{plain(found['no_change_s'])} s", whole(found["no_change_runs"]),
            f"{plain(found['no_change_worst_s'])} s", OBSERVED),
        Row("bytes of a redeploy", whole(found["delta_bytes"]), "1", "-", COUNTED),
    ]  # fmt: skip


def stand_in(found: Json) -> list[Row]:
    kept = sum(check["kept"] == "yes" for check in found["checks"])
    return [Row(f"checks kept: {found['verdict']}", whole(kept), whole(len(found["checks"])), "-", COUNTED)]


def fleet(found: Json) -> list[Row]:
    return [Row(f"rollouts: {'kept' if found['kept'] else '**broken**'}", whole(len(found["rollouts"])),
                f"{whole(found['robots'])} robots", "-", COUNTED)]  # fmt: skip


def fuzz(found: Json) -> list[Row]:
    return [
        Row(f"{row['decoder']}: {row['verdict']}", whole(row["inputs"]), "-", "-", COUNTED) for row in found["rows"]
    ]


def can(found: Json) -> list[Row]:
    return [Row("tests on a real kernel's CAN", f"{whole(sum(found['passed'].values()))} passed, "
                f"{len(found['failed'])} failed", "-", "-", COUNTED)]  # fmt: skip


def seams(found: Json) -> list[Row]:
    rows = []
    for row in found["closed_loop"]:
        speed = row["wanted"]["velocity_m_s"]
        value = three(speed, "m/s", ("p50", "p95"))
        name = f"{row['way']} at {row['delay']} ticks: jump of speed, p50 / p95"
        rows.append(Row(name, value, f"{whole(row['seams'])} seams", f"{plain(speed['max'])} m/s", OBSERVED))
    return rows


SUBJECTS = (
    Subject("Deadlines of the whole loop", "guard.json", "make guard", guard, "See [guard](guard.md)."),
    Subject("Wake-up of the servo", "loop-windows.json", "edgevla bench loop -o bench/results/loop-windows.json", wake),
    Subject("Half a million servo steps", "soak.json", "make soak", soak),
    Subject("Memory of the servo", "steady.json", "make steady", steady),
    Subject("Latency of the reference policy", "demo.json", "make demo", latency),
    Subject("Other engines", "compare.json", "make compare", engines),
    Subject("Peers in one run", "peers.json", "make bench-peers", peers),
    Subject("SmolVLA, random weights", "smolvla.json", "make smolvla", smolvla),
    Subject("Scaling", "scaling.json", "make bench-scaling", scaling),
    Subject("Memory of a large teacher", "teacher-memory.json", "make teacher-memory", teacher_memory),
    Subject("Success", "metaworld/evidence.json", "make evidence", success),
    Subject("Success under delay", "delay.json", "make delay", delay, "Ways: [seams](seams.md)."),
    Subject("Seams between chunks", "seams.json", "make seams", seams),
    Subject("Buses", "bus-run.json", "make bench-bus", bus, "See [bridge](bridge.md)."),
    Subject("Faults put in", "faults-run.json", "make test-faults", faults, "See [reliability](reliability.md)."),
    Subject("Power cut during a deploy", "powercut.json", "make test-powercut", powercut),
    Subject("Deploy over loopback", "deploy-loopback.json", "make bench-deploy", deploy),
    Subject("A robot as a virtual machine", "twin.json", "make test-twin", stand_in),
    Subject("A robot in a container", "nspawn.json", "make test-nspawn", stand_in),
    Subject("A fleet", "fleet.json", "make test-fleet", fleet),
    Subject("Parity on an emulated arm64", "parity-arm64.json", "make parity-arm64", arm64),
    Subject("Parity with LeRobot", "lerobot-parity.json", "make test-lerobot", lerobot),
    Subject("Fuzzed decoders", "fuzz.json", "make fuzz-bridge", fuzz),
    Subject("SocketCAN", "can.json", "make test-can", can),
)  # fmt: skip
