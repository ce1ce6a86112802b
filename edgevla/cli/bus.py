"""`edgevla bus`: scan, monitor, decode, record, replay, bench. None of them arms, except `bench --armed`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from edgevla.bus import explain as words
from edgevla.bus import scan as scanning
from edgevla.bus import serve, watch
from edgevla.bus.measure import Counting, in_words, measure
from edgevla.cli.live import follow
from edgevla.cli.output import JSON_OPTION, print_json, print_table, require_writable, say
from edgevla.cli.stopping import stoppable, until_told
from edgevla.errors import BadInput, DeviceFault, Usage, explain
from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import KINDS
from firmware_bridge.transport.log import Log, What
from firmware_bridge.transport.open import SYNTAX, kind_of, open_transport
from firmware_bridge.transport.recording import Recording
from firmware_bridge.transport.tap import tap
from profiles import ArmProfile
from profiles.calibrated import load_calibrated

app = typer.Typer(
    help="Look at a bus: who is on it, what passes, what the bytes mean, how fast a cycle is. Nothing is armed.",
    epilog="Example: edgevla bus scan",
    no_args_is_help=True,
)
_ARM = typer.Option(..., "--arm", help="Name or .toml of the arm profile")
_LAST_ID = 252  # the highest that any of the protocols gives to one device
_CALIBRATION = typer.Option(None, "--calibration", help="Calibration file, LeRobot's or of `edgevla arm calibrate`")
_PORT = typer.Option(..., "--port", help=f"Port, or BUS=PORT,BUS=PORT: {SYNTAX}")
_PERIOD = typer.Option(0.05, "--period-s", min=0.001, max=10.0, help="Time between two questions, seconds")
_FILE = typer.Option(..., "-o", "--output", metavar="FILE", help="Write the recording there")
_SHOWN = 200  # lines of a file that a table shows


@app.command()
def scan(
    protocol: list[str] = typer.Option([], "--protocol", help=f"Only this one; repeat. {', '.join(KINDS)}"),
    port: list[str] = typer.Option([], "--port", help=f"Only this one; repeat. {SYNTAX}"),
    baud: list[int] = typer.Option([], "--baud", min=1_200, max=10_000_000, help="Only this bit rate; repeat"),
    ids: str = typer.Option("", "--ids", metavar="FIRST-LAST", help="Only these ids, e.g. 1-8: much faster"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Ask every port, protocol and common bit rate who is there. Commands nothing; end other programs first.

    Example: edgevla bus scan --protocol feetech --ids 1-8
    """
    _require_protocols(protocol)
    port = [each for text in port for each in scanning.ports_of(text)]
    planned, range_ = list(scanning.tries(protocol, port, baud)), _ids(ids)
    _require_tries(planned, protocol, port)
    with stoppable():
        answers = list(_asked(planned, range_, as_json))
    if port and all(answer.error for answer in answers):
        raise DeviceFault(answers[-1].error)
    rows = [(a.protocol, a.port, a.baud, f.id, f.model, f.firmware, f.note) for a in answers for f in a.found]
    columns = ["protocol", "port", "baud", "id", "model", "firmware", "note"]
    errors = sorted({f"{a.port}: {a.error.partition(chr(10))[0]}" for a in answers if a.error})
    if as_json:
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        print_json({"found": found, "errors": errors, "asked": [[a.protocol, a.port, a.baud] for a in answers]})
    else:
        for error in errors:
            say(error, "yellow")
        if rows:
            print_table("found", columns, rows)
    if not rows:
        raise _nobody([(a.protocol, a.port, a.baud) for a in answers if not a.error] or planned)


@app.command()
def monitor(
    arm: str = _ARM,
    port: str = _PORT,
    calibration: Path | None = _CALIBRATION,
    period_s: float = _PERIOD,
    count: int = typer.Option(0, "--count", min=0, help="End after so many looks; 0: Ctrl-C"),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object a line for each look."),
) -> None:
    """Show position, velocity, effort, temperature, torque, age and faults of every joint, live. Never arms.

    A table on a terminal; in a pipe or a file one line a look.

    Example: edgevla bus monitor --arm so101 --port /dev/ttyACM0
    """
    profile = load_calibrated(arm, calibration)
    with until_told(), _connected(watch.opened(profile, port)) as device:
        follow(profile, watch.watch(device, period_s, count), as_json)


@app.command()
def decode(
    what: str = typer.Argument(..., metavar="FILE|HEX", help="A recording, a candump log, bytes in hex, or ID#DATA"),
    protocol: list[str] = typer.Option([], "--protocol", help="As this one; default: as all that could be"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Explain bytes or frames in words. Without --protocol, says which protocols they fit.

    Example: edgevla bus decode "FF FF 01 04 02 38 02 BE"
    """
    _require_protocols(protocol)
    _print_readings(words.log_of(what), protocol, as_json)


@app.command()
def record(
    port: str = _PORT,
    output: Path = _FILE,
    arm: str = typer.Option("", "--arm", help="Needed on serial lines: the arm is asked for its state meanwhile"),
    calibration: Path | None = _CALIBRATION,
    data_baud: int = typer.Option(0, "--data-baud", min=0, help="Of CAN-FD's data phase; 0: CAN 2.0 frames only"),
    period_s: float = _PERIOD,
    duration_s: float = typer.Option(0.0, min=0.0, help="End after this long; 0: Ctrl-C"),
    replace: bool = typer.Option(False, "--replace", help="Write over a file that is there"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write down what passes on a line, byte for byte: a CAN bus silently, a serial arm while it is monitored.

    Example: edgevla bus record --port can0 -o bus.log --duration-s 10
    """
    if output.exists() and not replace:
        todo = "name another with -o, or pass --replace"
        raise Usage(explain("nothing is written over unasked", "a file that is not there", str(output), todo))
    until_ns = time.monotonic_ns() + int(duration_s * 1e9) if duration_s else None
    if not arm and kind_of(port) != "can":
        todo = "pass --arm NAME: a serial line tells a listener nothing, so the arm is asked"
        raise Usage(explain("what is on this serial line?", "--arm", "none", todo))
    require_writable(output)
    lines: list[Recording] = []
    with until_told():
        if arm:
            _record_arm(load_calibrated(arm, calibration), port, output, period_s, until_ns, lines)
        else:
            _record_can(port, output, data_baud or None, until_ns, lines)
    _require_whole(output, lines)
    log = words.log_of(str(output))
    summary = {"file": str(output), "kind": log.kind, "records": len(log.records), "lost": log.lost}
    if as_json:
        print_json(summary)
    else:
        say(f"{output}: {summary['records']} records, {log.lost} lost; `edgevla bus decode {output}` explains them")


@app.command()
def replay(
    file: Path = typer.Argument(..., help="A recording of `bus record`"),
    protocol: list[str] = typer.Option([], "--protocol", help="As this one; default: the one it was recorded with"),
    serving: bool = typer.Option(False, "--serve", help="Be the recorded device on a port, until the recording ends"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Print a recording in words, or be the recorded device: whoever writes the same gets the same answers.

    Example: edgevla bus replay line.bus --serve
    """
    _require_protocols(protocol)
    log = words.log_of(str(file))
    if not serving:
        _print_readings(log, protocol, as_json)
        return

    def announce(port: str) -> None:
        sys.stdout.write(json.dumps({"port": port, "kind": log.kind}) + "\n")
        sys.stdout.flush()

    with until_told():
        exchanged = serve.serve(file, log, announce)
        sys.stdout.write(json.dumps({"event": "end", "exchanged": exchanged}) + "\n")


@app.command()
def bench(
    arm: str = _ARM,
    port: str = _PORT,
    calibration: Path | None = _CALIBRATION,
    cycles: int = typer.Option(1_000, min=10, max=1_000_000, help="Cycles, one after the other"),
    armed: bool = typer.Option(False, "--armed", help="Arm it and command it to stay where it is: torque is on"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure whole cycles: time, the wire's part, the host's share, jitter. Torque stays off without --armed.

    Example: edgevla bus bench --arm so101 --port /dev/ttyACM0
    """
    profile = load_calibrated(arm, calibration)
    device = watch.opened(profile, port)
    counters = tap(device, lambda inner: Counting(inner, profile.baud, profile.data_baud))
    delay_s = profile.return_delay_s + profile.usb_turnaround_s
    with stoppable(), _connected(device, to_arm=armed) as connected:
        if armed:
            connected.arm()
        found = measure(connected, counters, cycles, armed, delay_s, max(0.05, profile.command_ttl_s))
    if not found.cycles:
        raise connected.silence()
    if as_json:
        print_json({"arm": profile.name, "port": port, "armed": armed, "declared_delay_s": delay_s, **asdict(found)})
        return
    print_table(f"{profile.name} on {port}, torque {'ON' if armed else 'as it was'}", ["what", ""], in_words(found))
    if found.no_host_share:
        say(f"host share not measured: {found.no_host_share}", "yellow")


# --- inside -------------------------------------------------------------------------------------------------


@contextmanager
def _connected(device: Any, to_arm: bool = False) -> Iterator[Any]:
    with closing(device):
        if to_arm:
            device.connect()
        else:
            watch.looked_at(device)
        yield device


def _print_readings(log: Log, protocols: list[str], as_json: bool) -> None:
    """Raises BadInput after printing where nothing of it fits."""
    recorded = str(log.head.get("protocol", ""))
    found = words.readings(log, protocols or ([recorded] if recorded else []))
    best = [reading for reading in found if reading.fits > 0] or found[:1]
    if as_json:
        fits = {reading.protocol: reading.fits for reading in found}
        shown = found if protocols else best
        lines = {reading.protocol: [asdict(line) for line in reading.lines] for reading in shown}
        print_json({"kind": log.kind, "torn": log.torn, "fits": fits, "lines": lines})
    elif not best[0].lines:
        say("nothing has passed on this line while it was recorded")
    elif protocols or best[0].fits > 0:
        _print_tables(log, found if protocols else best if len(best[0].lines) <= 3 else best[:1], found)
    words.require_fit(found)


def _print_tables(log: Log, shown: Sequence[words.Reading], found: Sequence[words.Reading]) -> None:
    for reading in shown:
        rows = [("" if n.s is None else f"{n.s:.6f}", n.way, n.data, n.words) for n in reading.lines[:_SHOWN]]
        print_table(f"as {reading.protocol}, {reading.fits:.0%} fits", ["s", "from", "data", "in words"], rows)
        if len(reading.lines) > _SHOWN:
            say(f"and {len(reading.lines) - _SHOWN} more; --json prints all")
    others = [f"{reading.protocol} {reading.fits:.0%}" for reading in found]
    say(f"fits: {', '.join(others)}" + (", its end is torn" if log.torn else ""))


def _require_whole(output: Path, lines: Sequence[Recording]) -> None:
    """Raises BadInput where the disk took no more."""
    for line in lines:
        if line.failed:
            todo = f"free space on that disk; `edgevla bus decode {output}` explains what was written until then"
            raise BadInput(explain(f"the recording {output} ended early", "all that passed", line.failed, todo))


def _record_can(port: str, output: Path, data_baud: int | None, until_ns: int | None, lines: list[Recording]) -> None:
    line = Recording(open_transport("can", port, scanning.CAN_BAUD, data_baud), output, "can")
    lines.append(line)
    try:
        line.open()
    except BridgeError:
        line.finish()
        output.unlink()
        raise
    try:
        while not line.failed and (until_ns is None or time.monotonic_ns() < until_ns):
            soon_ns = time.monotonic_ns() + 100_000_000
            line.wait_readable(min(soon_ns, until_ns or soon_ns))
            line.read()
    finally:
        line.close()
        line.finish()


def _record_arm(
    profile: ArmProfile,
    port: str,
    output: Path,
    period_s: float,
    until_ns: int | None,
    lines: list[Recording],
) -> None:
    if len(profile.buses) != 1:
        todo = "record each of its buses on its own, passively: `edgevla bus record --port can0 -o left.bus`"
        raise Usage(explain(f"{profile.name} spans buses", "one bus", ", ".join(profile.buses), todo))
    device, kind = watch.opened(profile, port), KINDS[profile.protocol]
    more: dict[str, Any] = {"protocol": profile.protocol, "arm": profile.name, "baud": profile.baud}
    (line,) = tap(device, lambda inner: Recording(inner, output, kind, **more))
    lines.append(line)
    try:
        with _connected(device):
            for _ in watch.watch(device, period_s):
                if line.failed or (until_ns is not None and time.monotonic_ns() >= until_ns):
                    break
    except BridgeError:
        line.finish()
        _keep_or_drop(output)
        raise
    finally:
        line.finish()


def _keep_or_drop(output: Path) -> None:
    """A recording of a line that failed: kept, and said so, where anything has passed."""
    if any(record.what in (What.WROTE, What.READ) for record in words.log_of(str(output)).records):
        print(f"`edgevla bus decode {output}` explains what has passed until the error:", file=sys.stderr)
    else:
        output.unlink()


def _asked(planned: Sequence[scanning.Try], ids: range | None, quiet: bool) -> Iterator[scanning.Answer]:
    """Each answer, said as it comes: who waits for one joint need not wait for the rest.

    A port that failed by itself is not asked again.
    """
    failed = set()
    for protocol, port, baud in planned:
        if port in failed:
            continue
        if not quiet:
            say(f"{port} at {baud:,} bit/s: {protocol} ...", "dim")
        answer = scanning.ask(protocol, port, baud, ids)
        if answer.port_failed:
            failed.add(port)
        if answer.found and not quiet:
            say("  " + ", ".join(f"id {found.id} {found.model}" for found in answer.found), "green")
        yield answer


def _require_tries(planned: Sequence[scanning.Try], protocols: list[str], ports: list[str]) -> None:
    """Raises Usage for protocols that none of the ports can carry, DeviceFault where there is no port at all."""
    if planned:
        return
    if ports or scanning.serial_ports() or scanning.can_interfaces():
        where = ", ".join(f"{port} (a {kind_of(port)} port)" for port in ports) or "the ports of this computer"
        todo = "name a port that carries it, or leave --protocol out"
        raise Usage(explain(f"{', '.join(protocols)} cannot be on {where}", f"--port {SYNTAX}", where, todo))
    todo = "plug it in and see `ls /dev/serial/by-id`; for CAN `ip link set can0 up type can bitrate 1000000`; "
    todo += "a virtual arm: `edgevla sim-arm so101`, then --port with what it prints"
    raise DeviceFault(explain("nothing to scan", "a serial adapter or a CAN interface", "none on this computer", todo))


def _nobody(planned: Sequence[scanning.Try]) -> DeviceFault:
    asked = sorted({f"{port} ({protocol})" for protocol, port, _ in planned})
    expected = "an answer on " + ", ".join(asked)
    todo = "check in this order: the arm's supply is on; its cable; the port (`ls /dev/serial/by-id`); that no other "
    todo += "program uses it; then other bit rates (--baud)"
    return DeviceFault(explain("nobody answered", expected, f"silence after {len(planned)} tries", todo))


def _require_protocols(protocols: list[str]) -> None:
    known = [*words.installed("serial"), *words.installed("can")]
    for protocol in protocols:
        if protocol not in known:
            raise Usage(explain("unknown --protocol", ", ".join(known), protocol, "name one of them"))


def _ids(text: str) -> range | None:
    if not text:
        return None
    first, _, last = text.partition("-")
    try:
        asked = range(int(first), int(last or first) + 1)
    except ValueError:
        asked = range(0)
    if not asked or not 0 <= asked[0] <= asked[-1] <= _LAST_ID:
        raise Usage(explain("--ids", f"FIRST-LAST within 0-{_LAST_ID}, such as 1-8", text, "pass two whole numbers"))
    return asked
