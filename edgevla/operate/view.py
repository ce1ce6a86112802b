"""The live view of a run: a moment (`ViewState`) as something rich can draw. Pure.

What matters most stands on top, so that a low window cuts off the joints and not the ladder.
"""

from __future__ import annotations

import math

from rich.text import Text

from edgevla.control.ladder import Phase
from edgevla.operate.state import CameraView, JointView, ViewState
from edgevla.operate.tally import LATENCY_EDGES, Histogram

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BAR = 25  # characters of a joint's range
_HOT_C = 85.0  # Jetson Orin begins to throttle in the nineties
KEYS = "space stop   a arm   q stop and quit   ? help"
HELP = (
    "space  slow down within limits, hold, latch      a  arm, when disarmed or latched",
    "q      stop, then end the run                    ?  hide this",
    'elsewhere: edgevla say "..." for another instruction; SIGTERM stops and ends',
)

# What each phase means to somebody beside the arm.
WORDS: dict[Phase, tuple[str, str]] = {
    Phase.DISARMED: ("reads the joints, commands nothing", "cyan"),
    Phase.START: ("armed: holds until the first chunk", "yellow"),
    Phase.TRACK: ("follows the policy", "green"),
    Phase.SLOW: ("slows down to rest", "yellow"),
    Phase.HOLD: ("at rest, torque on: a chunk resumes", "yellow"),
    Phase.LATCHED: ("stopped and latched, torque on: only arming resumes", "red"),
    Phase.TORQUE: ("latched: the torque policy applies", "bold red"),
}


def phase_words(state: ViewState) -> tuple[str, str]:
    """The ladder in words, and its colour."""
    if state.phase is None:
        return "the servo has made no step yet", "yellow"
    words, colour = WORDS[state.phase]
    if state.stopping and state.phase in (Phase.START, Phase.TRACK, Phase.SLOW, Phase.HOLD):
        return f"{words} (stop asked for)", "red"
    return words, colour


def render(state: ViewState, help_shown: bool = False) -> Text:
    """The whole view, some 80 columns wide; one text, as tables of rich cost a servo core ten times as much."""
    lines = [*_head(state), *_loop(state), *_timing(state), *_surroundings(state)]
    lines += [Text(line, style="reverse") for line in (HELP if help_shown else (KEYS,))]
    lines.append(Text((state.note.splitlines() or [""])[0], style="dim"))
    return Text("\n", no_wrap=True, overflow="ellipsis").join([*lines, *_joints(state)])


def _head(state: ViewState) -> list[Text]:
    words, colour = phase_words(state)
    name = "STARTING" if state.phase is None else state.phase.name
    lines = [
        Text.assemble((f" {name} ", f"reverse {colour}"), " ", (words, colour)),
        Text.assemble(f"{state.policy} on {state.arm}: ", (repr(state.instruction), "bold")),
    ]
    if state.not_granted:
        lines.append(Text.assemble(("BEST EFFORT", "bold"), ", not granted: " + "; ".join(state.not_granted)))
    return lines


def _loop(state: ViewState) -> list[Text]:
    tally = state.tally
    slow = not 0.95 <= state.rate_hz / state.declared_rate_hz <= 1.05
    left = "none" if state.remaining_ticks is None else f"{state.remaining_ticks} of {state.horizon} ticks"
    return [
        Text.assemble(
            *_figure("servo", f"{state.rate_hz:.1f} / {state.declared_rate_hz:.1f} Hz", 20, slow),
            *_figure("misses", f"{tally.misses} of {tally.steps}", 20),
            *_figure("late commands", str(tally.late), 8, tally.late > 0),
        ),
        Text.assemble(
            *_figure("chunk left", left, 15, state.remaining_ticks == 0),
            *_figure("release misses", f"{tally.release_misses} of {tally.asked}", 12),
            *_figure("limits", ", ".join(state.limits_hit) or "none hit", 8, "not_finite" in state.limits_hit),
        ),
    ]


def _figure(name: str, value: str, width: int, alarming: bool = False) -> list[tuple[str, str]]:
    return [(f"{name} ", "dim"), (f"{value:{width}} ", "bold red" if alarming else "")]


def _timing(state: ViewState) -> list[Text]:
    wake, latency = state.tally.wake_us, state.tally.latency
    release = LATENCY_EDGES.index(1.0) + 1  # bins left of it were in time
    bins = sparks(latency)
    marked = [(bins[:release], "green"), ("|", "bold"), (bins[release:], "red")]
    width = len(bins) + 2
    return [
        Text.assemble(("wake after deadline  ", "dim"), f"{sparks(wake):{width}}", _percentiles(wake, "us", 1.0)),
        Text.assemble(("observation to chunk ", "dim"), *marked, " ", _percentiles(latency, "ms", state.release_ms)),
    ]


def sparks(histogram: Histogram) -> str:
    """One character per bin, by the logarithm of its count: a single outlier among a million stays visible."""
    top = math.log1p(max(histogram.counts)) or 1.0
    return "".join(_BLOCKS[math.ceil(math.log1p(n) / top * (len(_BLOCKS) - 1))] for n in histogram.counts)


def _percentiles(histogram: Histogram, unit: str, scale: float) -> tuple[str, str]:
    if not histogram.total:
        return "not measured yet", "dim"
    half, most = (histogram.below(quantile) * scale for quantile in (0.5, 0.99))
    return f"p50 <= {half:.3g}  p99 <= {most:.3g}  max {histogram.maximum * scale:.3g} {unit}", ""


def _surroundings(state: ViewState) -> list[Text]:
    age = "not read yet" if state.state_age_s is None else f"{state.state_age_s * 1e3:.0f} ms old"
    counts = [(f"{state.restarts} policy restarts, {state.stolen_s:.2f} s stolen by the host, joints {age}", "")]
    if state.device_faults:
        counts.append((f", device faults 0x{state.device_faults:04x}", "bold red"))
    cameras = [_camera(camera) for camera in state.cameras] or [("none", "dim")]
    hot = [_temperature(*item) for item in state.temperatures] or [("not reported", "dim")]
    recorder = (state.recorder, "bold red" if state.recorder.startswith("failed") else "")
    rows = (("cameras", cameras), ("temperatures", hot), ("recorder", [recorder]), ("counts", counts))
    return [Text.assemble((f"{name:13}", "dim"), *parts) for name, parts in rows]


def _camera(camera: CameraView) -> tuple[str, str]:
    age = "no frame" if camera.age_s is None else f"{camera.age_s * 1e3:.0f} ms"
    return f"{camera.name} {age}  ", "bold red" if camera.stale else ""


def _temperature(name: str, celsius: float) -> tuple[str, str]:
    return f"{name} {celsius:.0f} C  ", "bold red" if celsius >= _HOT_C else ""


def _joints(state: ViewState) -> list[Text]:
    wide = max([len("joint"), *(len(joint.name) for joint in state.joints)])
    head = f"{'joint':{wide}}  minimum {'| set-point  o measured':{_BAR}} maximum  set-point measured"
    return [Text(head, style="dim"), *(_joint(joint, wide) for joint in state.joints)]


def _joint(joint: JointView, wide: int) -> Text:
    line, outside = bar(joint)
    measured = "-" if joint.measured is None else f"{joint.measured:+.3f}"
    return Text.assemble(
        f"{joint.name:{wide}} {joint.minimum:+8.2f} ",
        (line, "bold red" if outside else ""),
        f" {joint.maximum:+8.2f} {joint.setpoint:+9.3f} {measured:>8} {joint.unit}",
    )


def bar(joint: JointView) -> tuple[str, bool]:
    """The range of a joint as a line: `|` set-point, `o` measured, `<` `>` outside it; and whether one is."""
    cells = ["·"] * _BAR
    outside = False
    for mark, value in (("o", joint.measured), ("|", joint.setpoint)):
        if value is None or not math.isfinite(value):
            continue
        share = (value - joint.minimum) / (joint.maximum - joint.minimum)
        outside |= not -1e-6 <= share <= 1.0 + 1e-6
        place = min(_BAR - 1, max(0, round(share * (_BAR - 1))))
        cells[place] = mark if -1e-6 <= share <= 1.0 + 1e-6 else "<" if share < 0.0 else ">"
    return "".join(cells), outside
