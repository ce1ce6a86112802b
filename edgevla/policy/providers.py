"""What a session runs on: execution providers of ONNX Runtime with their options, as the target says.

A provider that is missing, that did not load, or that leaves every node to another one is refused: a fall back to the
CPU costs the deadline, and it would be the arm that finds out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgevla.errors import Refused, explain
from profiles.providers import CPU

_TODO = "install the ONNX Runtime that has it, or take it out of `providers` in the target profile"


@dataclass(frozen=True)
class RunsOn:
    """Providers in order, what each is told, and where TensorRT finds its engines."""

    providers: tuple[str, ...] = (CPU,)
    options: Mapping[str, Mapping[str, float | int | str | bool]] = field(default_factory=dict)
    spinning: bool = True  # of more than one CPU thread
    engines: str = ""  # folder of TensorRT's engines; '': there is none
    build: bool = False  # engines that are missing may be built: `run` never does

    @property
    def cpu_allowed(self) -> bool:
        """Whether nodes may run on the CPU."""
        return CPU in self.providers

    @property
    def cpu_only(self) -> bool:
        """Whether there is nothing that a node could fall back from."""
        return self.providers == (CPU,)


ON_CPU = RunsOn()


def runs_on_said(data: Mapping[str, Any]) -> RunsOn:
    """From what `dataclasses.asdict` and JSON made of one."""
    return RunsOn(**{**data, "providers": tuple(data["providers"])})


def require_available(runs_on: RunsOn) -> None:
    """Raises Refused when the installed ONNX Runtime was built without one of the providers."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    absent = [name for name in runs_on.providers if name not in available]
    if absent:
        got = f"{', '.join(available)} in onnxruntime {onnxruntime.__version__}"
        raise Refused(explain("an execution provider of the target is missing", ", ".join(absent), got, _TODO))


def require_loaded(session: Any, runs_on: RunsOn, stage: str) -> None:
    """Raises Refused when ONNX Runtime dropped a provider: it was built with it, but its libraries are not there."""
    loaded = session.get_providers()
    lost = [name for name in runs_on.providers if name not in loaded]
    if lost:
        what = f"stage {stage}: an execution provider of the target did not load"
        todo = "see what ONNX Runtime printed: most often a library of CUDA, cuDNN or TensorRT of another version"
        raise Refused(explain(what, ", ".join(lost), ", ".join(loaded), todo))


def require_used(found: Mapping[str, Mapping[str, int]], wanted: Sequence[str]) -> None:
    """Raises Refused unless every node ran on a provider of the target, and its first one ran some of them.

    `found`: nodes by the provider that ran them, by stage; empty where nothing was read back.
    """
    ran = [(stage, name, count) for stage, providers in found.items() for name, count in providers.items()]
    strange = [f"{count} nodes of stage {stage} on {name}" for stage, name, count in ran if name not in wanted]
    if strange:
        todo = "export the artifact of this target, or name the provider in the target profile"
        raise Refused(explain("nodes ran where the target does not want them", wanted, "; ".join(strange), todo))
    if ran and not any(name == wanted[0] for _, name, _ in ran):
        got = "; ".join(f"{count} nodes of stage {stage} on {name}" for stage, name, count in ran)
        todo = "export the artifact of this target, or put the provider that shall run it first"
        raise Refused(explain("the first provider of the target ran nothing", f"nodes on {wanted[0]}", got, todo))


def option_texts(options: Mapping[str, float | int | str | bool]) -> dict[str, str]:
    """Options as ONNX Runtime takes them: texts, a truth as 1 or 0."""
    return {key: str(int(value) if isinstance(value, bool) else value) for key, value in options.items()}
