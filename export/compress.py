"""The steps behind `edgevla compress`: distil, export, quantize, compare, pack."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.bundle.manifest import ActionChannel
from edgevla.bundle.reader import Bundle
from edgevla.bundle.verify import verify_golden
from edgevla.bundle.writer import write_bundle
from edgevla.errors import BadInput, Refused, Unsound, explain
from edgevla.policy.engine import open_session
from export.controls import ControlRow, compare_students
from export.data.interface import HELD_EVERY, held_out
from export.data.ours import OurData
from export.distill.feed import Feed
from export.distill.opening import open_data, open_teacher, require_answer, source_of
from export.distill.seam import measure as measure_seam
from export.distill.source import Recorded, Source
from export.distill.start import Wish, bundle_noise, require_allowed
from export.embodiment import Embodiment, draft, read_embodiment, reference_embodiment, require_fits
from export.graphs import Made, Table, graph_table, make_graphs, search_graphs
from export.launch import run_distillation
from export.pack import (
    ARTIFACT_NAMES,
    Policy,
    Words,
    bundle_files,
    camera_map,
    direct_policy,
    golden_vectors,
    manifest_of,
    parity_evidence,
    student_policy,
)
from export.parity.frames import Frames
from export.parity.stages import StageParity, require_float_parity, stage_parity
from export.request import CONTROLS, DIRECT, Request, is_own, require_consistent, require_files
from export.search.error import parse_budget
from export.students.interface import SavedStudent, load_student
from export.teachers.interface import TeacherPolicy, TeacherSpec

PARITY_FRAMES = 300
JUDGED_FRAMES = 320  # by the search: the p99 is the fourth worst
CALIBRATION_FRAMES = 64
SEAM_FRAMES = 150


@dataclass(frozen=True)
class Result:
    """What came out."""

    bundle: Bundle
    parity: list[StageParity]
    controls: list[ControlRow]
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    picture: Path | None  # of the search
    steps_s: Mapping[str, float]
    peak_mb: float  # of the largest process


@dataclass(frozen=True)
class Scene:
    """Teacher, data and robot, which all steps share."""

    teacher: TeacherPolicy
    data: Recorded
    source: Source
    embodiment: Embodiment


def compress(request: Request, progress: bool = False) -> Result:
    """Runs all steps; what a killed run had finished is taken up again.

    Raises:
        BadInput: teacher, data or embodiment are unusable or do not fit, or the bundle cannot be written.
        Refused: a parity gate failed, or the teacher does not allow what is asked.
        Unsound: too few held-out frames for the search.
        Usage: options that do not go together.
    """
    require_consistent(request)
    require_files(request)
    scene = open_scene(request)
    if request.artifact.search:
        require_enough_to_judge(scene.data)
        parse_budget(request.artifact.error_budget, _channels(scene.teacher.spec, scene.embodiment))
    work, modes = request.work / fingerprint(request, scene), modes_of(request, scene.teacher)
    for mode in modes:
        require_allowed(scene.teacher, wish_of(request), mode)
    clock, students = _Clock(), {}
    for mode in modes:
        students[mode] = load_student(run_distillation(request, work, mode))
        clock.lap(mode)
    policy = _policy(request, scene, students)
    bundle, parity, made, controls = _export(request, scene, policy, students, work, progress)
    clock.lap("export")
    notes, picture = (*scene_notes(scene), *made.notes), _picture(request, made)
    return Result(bundle, parity, controls, notes, made.tables, picture, clock.laps, _peak_mb())


def _picture(request: Request, made: Made) -> Path | None:
    """Writes the front of the search beside the bundle."""
    if not made.picture:
        return None
    path = request.out.with_suffix(".front.svg")
    part = path.with_name(f".{path.name}.part")
    part.write_text(made.picture)
    os.replace(part, path)
    return path


def open_scene(request: Request) -> Scene:
    """Loads what is asked for. Raises BadInput: something is unusable, or does not fit the rest."""
    asked = request.teacher
    robot = None if request.embodiment is None else read_embodiment(request.embodiment)
    teacher = open_teacher(asked.where, asked.tokenizer, asked.precision, asked.steps)
    data = open_data(request.data, request.work, None if robot is None else robot.camera_sources)
    if robot is None and isinstance(data, OurData):
        robot = reference_embodiment(data.cameras[0].name, data.frame_rate_hz)
    if robot is None:
        todo = "write one: the same command with --draft-embodiment robot.toml, then fill it in"
        raise BadInput(explain("what the numbers mean on the robot", "--embodiment FILE.toml", "none", todo))
    if isinstance(data, OurData):
        require_same_words(teacher, data)
    source = source_of(data, teacher)
    require_fits(robot, tuple(data.action_names), tuple(data.state_names))
    if is_own(asked.where):
        require_answer(teacher, source)
    return Scene(teacher, data, source, robot)


def draft_embodiment(request: Request) -> str:
    """The embodiment file of this teacher and dataset, to fill in."""
    asked = request.teacher
    teacher = open_teacher(asked.where, asked.tokenizer, asked.precision, asked.steps)
    data = open_data(request.data, request.work)
    there = {camera.name for camera in data.cameras}
    cameras = {camera.name: camera.name if camera.name in there else "none" for camera in teacher.spec.cameras}
    return draft(data, cameras)  # type: ignore[arg-type]


def require_same_words(teacher: TeacherPolicy, data: OurData) -> None:
    """A teacher of our own vocabulary hears the words that the dataset was recorded with."""
    theirs, ours = tuple(getattr(teacher, "words", ())), tuple(data.demonstrations.meta["vocabulary"])
    if theirs and isinstance(theirs[0], str) and theirs != ours:
        got = f"{len(ours)} words, without {sorted(set(theirs) - set(ours))}, and {sorted(set(ours) - set(theirs))}"
        raise BadInput(
            explain("words of the dataset", f"the teacher's {len(theirs)} words in its order", got, "record it again")
        )


def require_enough_to_judge(data: Recorded) -> None:
    """A search is judged by a p99, on frames that nothing was trained on. Raises Unsound: there are too few."""
    held = int(held_out(data.start).sum())
    if held < JUDGED_FRAMES:
        expected = f"{JUDGED_FRAMES} frames of held-out episodes (the first of every {HELD_EVERY})"
        todo = "record more episodes, or leave --search out"
        raise Unsound(explain("--search", expected, f"{held} in {len(np.unique(data.start))} episodes", todo))


def scene_notes(scene: Scene) -> tuple[str, ...]:
    """What the reader of the figures should know about the dataset."""
    notes = []
    if not held_out(scene.data.start).any():
        notes.append(f"fewer than {HELD_EVERY} episodes: none is held out, so all figures are of frames trained on")
    cameras = zip(scene.teacher.spec.cameras, scene.source.present, strict=True)
    for absent in [camera.name for camera, there in cameras if not there]:
        notes.append(f"no camera {absent} in the dataset: shown blank and masked, as the teacher was trained to accept")
    return tuple(notes)


def fingerprint(request: Request, scene: Scene) -> str:
    """Names the work folder: the same teacher, data and recipe resume, anything else starts anew.

    Not the mode: a control takes up the targets of the distillation that it is compared with.
    """
    noise, scale = bundle_noise(scene.teacher, request.seed)
    recipe = [
        scene.teacher.sha256, request.teacher.precision, request.teacher.steps, noise.tolist(), scale,
        scene.source.sha256, request.seed, request.examples, request.budget, asdict(request.student),
        scene.embodiment.camera_sources,
        request.artifact.kind if request.student.finish else "",
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(recipe, default=str).encode()).hexdigest()[:16]


def modes_of(request: Request, teacher: TeacherPolicy) -> tuple[str, ...]:
    """What is distilled. A teacher without noise has no control without it."""
    if request.mode == DIRECT:
        return ()
    controls = [mode for mode in CONTROLS if mode != "without-z" or teacher.spec.noise]
    return (request.mode, *controls) if request.controls else (request.mode,)


def wish_of(request: Request) -> Wish:
    """The student that is wanted."""
    asked = request.student
    return Wish(asked.form, asked.depth, asked.d_max, asked.picture, asked.width)


def _policy(request: Request, scene: Scene, students: Mapping[str, SavedStudent]) -> Policy:
    if request.mode == DIRECT:
        noise = bundle_noise(scene.teacher, request.seed)[0].numpy() if scene.teacher.spec.noise else None
        if request.teacher.precision != "fp32":
            from export.teachers.bnb import dequantise  # bitsandbytes' layers do not export; only where they are there

            dequantise(scene.teacher)
        return direct_policy(scene.teacher, noise)
    return student_policy(students[request.mode], scene.teacher)


def _export(
    request: Request, scene: Scene, policy: Policy, students: Mapping[str, SavedStudent], work: Path, progress: bool
) -> tuple[Bundle, list[StageParity], Made, list[ControlRow]]:
    parity_frames = _frames(request, scene, policy, PARITY_FRAMES, 2, held=True)
    calibration = list(_frames(request, scene, policy, CALIBRATION_FRAMES, 3, held=False))
    made = _made(request, scene, policy, calibration, work, progress)
    graphs = made.graphs
    table, summaries = graph_table(graphs)
    made = replace(made, tables=(table, *made.tables))
    forms = {"fp32": graphs.floats, ARTIFACT_NAMES[graphs.kind]: graphs.model}
    sessions = {
        form: {name: open_session(graph, f"{form} {name}") for name, graph in one.items()}
        for form, one in forms.items()
    }
    rows = stage_parity(policy.stages, sessions, parity_frames, policy.spec.action_stats.scale)
    require_float_parity(rows)
    cameras = camera_map(policy, scene.embodiment, {c.name: (c.height, c.width) for c in scene.data.cameras})
    golden = golden_vectors(policy, sessions[ARTIFACT_NAMES[graphs.kind]], parity_frames, cameras, scene.data.state)
    controls = _controls(request, scene, students)
    evidence = {
        "parity": parity_evidence(rows, scene.embodiment),
        "graphs": summaries,
        **made.evidence,
        **_seam(request, scene, policy, work),
        **({"controls": {"rows": [row.as_dict() for row in controls]}} if controls else {}),
    }
    words = Words(scene.source.sentences, _known(scene.data), scene.teacher, _tokenizer(request))
    files = bundle_files(policy, graphs, words, cameras, scene.embodiment, golden, evidence)
    manifest = manifest_of(
        request.out.stem, policy, scene.teacher, graphs, cameras, scene.embodiment, scene.data.period_s,
        _recipe(request, scene, made),
    )  # fmt: skip
    bundle = write_bundle(request.out, manifest, files)
    _require_same_answers(bundle)
    return bundle, rows, made, controls


def _made(
    request: Request, scene: Scene, policy: Policy, calibration: Sequence[Any], work: Path, progress: bool
) -> Made:
    if not request.artifact.search:
        return make_graphs(policy, request.artifact, calibration)
    judged = list(_frames(request, scene, policy, JUDGED_FRAMES, 4, held=True))
    channels = _channels(policy.spec, scene.embodiment)
    return search_graphs(
        policy, request.artifact, judged, calibration, channels, work / "search", request.seed, progress
    )


def _channels(spec: TeacherSpec, embodiment: Embodiment) -> tuple[ActionChannel, ...]:
    stats = spec.action_stats
    keys = ("name", "kind", "space", "frame", "unit", "minimum", "maximum")
    return tuple(
        ActionChannel(**{k: getattr(a, k) for k in keys}, scale=float(stats.scale[i]), offset=float(stats.offset[i]))
        for i, a in enumerate(embodiment.actions)
    )


def _frames(request: Request, scene: Scene, policy: Policy, count: int, salt: int, held: bool) -> Frames:
    """Random frames of the dataset, of episodes that were trained on or were held out."""
    source, spec = scene.source, policy.spec
    rows = source.draw(count, request.seed + salt, spec.horizon, policy.d_max, held)
    feed = Feed(policy.feeding, source.sentences, source.present, scene.teacher)
    return Frames(source, feed, rows, policy.noise, policy.stages)


def _controls(request: Request, scene: Scene, students: Mapping[str, SavedStudent]) -> list[ControlRow]:
    if not request.controls:
        return []
    return compare_students(students, scene.teacher, scene.source, PARITY_FRAMES, request.seed + 5)


def _seam(request: Request, scene: Scene, policy: Policy, work: Path) -> dict[str, Any]:
    """The jump where a chunk takes over from the one before, at every length of the prefix."""
    if request.mode == DIRECT or not policy.d_max:
        return {}
    path = work / request.mode / "student.safetensors"
    rows = measure_seam(scene.teacher, scene.source, path, SEAM_FRAMES, seed=request.seed + 7)
    return {"seam": {"teacher_d_max": scene.teacher.spec.d_max, "rows": [asdict(row) for row in rows]}}


def _known(data: Recorded) -> dict[str, Any]:
    """Task -> an instruction it was trained with."""
    if isinstance(data, OurData):
        return dict(data.demonstrations.meta["known_instructions"])
    return {texts[0]: texts[0] for texts in data.wordings if texts}


def _tokenizer(request: Request) -> bytes | None:
    folder = request.teacher.tokenizer
    return None if folder is None else (folder / "tokenizer.json").read_bytes()


def _recipe(request: Request, scene: Scene, made: Made) -> dict[str, Any]:
    return {
        "mode": request.mode,
        "budget": request.budget,
        "seed": request.seed,
        "examples": request.examples,
        "processes": request.processes,
        "teacher_precision": request.teacher.precision,
        "finish": request.artifact.kind if request.student.finish else "none",
        "camera_sources": scene.embodiment.camera_sources,
        "notes": [*scene_notes(scene), *made.notes],
    }


def _require_same_answers(bundle: Bundle) -> None:
    """The engine answers from raw bytes what the exporter recorded. Raises Refused; the bundle stays, to look at."""
    broken = [verdict for verdict in verify_golden(bundle) if not verdict.kept]
    if broken:
        first, todo = broken[0], "report this: the robot would not see what the exporter saw"
        raise Refused(explain(f"{bundle.path.name}: {first.name}", first.expected, first.got, todo))


def _peak_mb() -> float:
    """Of this process and of the largest that it waited for."""
    used = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return used * 1024 / 1e6


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now
