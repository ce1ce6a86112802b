"""A target from its table, every value checked, also against each other."""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePath

from firmware_bridge.errors import suggest
from profiles.files import shipped
from profiles.model import ARTIFACTS, MINIMUM, GpuWheel, PowerMode, Target
from profiles.providers import CPU, OPTIONS, OWN_OPTIONS, TENSORRT
from profiles.strict import Table

_MOST_CORES = 1023
_OTHER_NAMES = {"arm64": "aarch64", "amd64": "x86_64", "x64": "x86_64", "x86-64": "x86_64"}  # of packages, of wheels


def read_target(table: Table) -> Target:
    """The target that the table describes. Raises ProfileError."""
    providers = _providers(table)
    target = Target(
        name=table.text("name"),
        description=table.text("description"),
        arch=_arch(table),
        providers=providers,
        artifact=table.text("artifact", ARTIFACTS),
        latency_budget_s=table.number("latency_budget_s", 1e-4, 10.0),
        replan_ticks=table.whole("replan_ticks", 1, 10_000),
        survive_misses=table.whole("survive_misses", 0, 1_000),
        servo_ratio=table.whole("servo_ratio", 1, 100),
        servo_core=_core(table, "servo_core"),
        policy_core=_core(table, "policy_core"),
        servo_priority=table.whole("servo_priority", 1, 99),
        policy_threads=table.whole("policy_threads", 1, 64),
        memory_mb=table.whole("memory_mb", 16, 1_048_576),
        hang_s=table.number("hang_s", 0.01, 60.0),
        measured=table.truth("measured"),
        python=_version(table, "python", r"3\.\d{1,2}", "a version like 3.10") if table.has("python") else "",
        provider_options=_provider_options(table, providers),
        policy_spinning=table.truth("policy_spinning") if table.has("policy_spinning") else True,
        disk_mb=table.whole("disk_mb", 16, 100_000_000) if table.has("disk_mb") else 1_000,
        power_mode=table.text("power_mode") if table.has("power_mode") else "",
        power_modes=table.each("power_modes", _power_mode, 32) if table.has("power_modes") else (),
        clocks_locked=table.truth("clocks_locked") if table.has("clocks_locked") else False,
        minimum=table.one("minimum", _minimum) if table.has("minimum") else {},
        gpu_wheel=table.one("gpu_wheel", _gpu_wheel) if table.has("gpu_wheel") else None,
        modules=_modules(table) if table.has("modules") else (),
        compatible=table.texts("compatible") if table.has("compatible") else (),
        board_model=table.text("board_model") if table.has("board_model") else "",
        ram_mb=table.whole("ram_mb", 256, 4_194_304) if table.has("ram_mb") else None,
    )
    _check_artifact(table, target)
    _check_power(table, target)
    return target


def _arch(table: Table) -> str:
    arch = table.text("arch")
    if arch in _OTHER_NAMES:
        table.fail("arch", f"{_OTHER_NAMES[arch]}, as `uname -m` says it", arch)
    return arch


def _core(table: Table, key: str) -> int | None:
    """A core number, or -1 for not pinned (TOML has no null)."""
    core = table.whole(key, -1, _MOST_CORES)
    return None if core == -1 else core


def _version(table: Table, key: str, pattern: str, expected: str) -> str:
    text = table.text(key)
    if not re.fullmatch(pattern, text):
        table.fail(key, expected, repr(text))
    return text


def _providers(table: Table) -> tuple[str, ...]:
    names = table.texts("providers")
    for name in names:
        if name not in OPTIONS:
            table.fail("providers", f"some of {', '.join(OPTIONS)}", name, suggest(name, OPTIONS) + table.todo)
    if len(set(names)) != len(names):
        table.fail("providers", "each provider once", ", ".join(names))
    return names


def _provider_options(table: Table, providers: tuple[str, ...]) -> dict[str, dict[str, float | int | str | bool]]:
    if not table.has("provider_options"):
        return {}
    for name in table.mapping("provider_options"):
        if name not in providers:
            table.fail("provider_options", f"options of {', '.join(providers)}, named in `providers`", name)
    return table.one("provider_options", _each_provider)


def _each_provider(table: Table) -> dict[str, dict[str, float | int | str | bool]]:
    return {name: table.one(name, partial(_options, known=OPTIONS[name])) for name in table.names()}


def _options(table: Table, known: dict[str, type]) -> dict[str, float | int | str | bool]:
    found: dict[str, float | int | str | bool] = {}
    for key in table.names():
        if key in OWN_OPTIONS:
            table.fail(key, "nothing: edgevla keeps these caches, by GPU, model and library version", "the key")
        if key not in known:
            todo = suggest(key, known) + table.todo
            table.fail(key, f"only known options: {', '.join(known) or 'none'}", f"`{key}`", todo)
        found[key] = _option(table, key, known[key])
    return found


def _option(table: Table, key: str, kind: type) -> int | str | bool:
    if kind is bool:
        return table.truth(key)
    return table.text(key) if kind is str else table.whole(key, 0, 2**62)


def _power_mode(table: Table) -> PowerMode:
    return PowerMode(
        name=table.text("name"),
        id=table.whole("id", 0, 255) if table.has("id") else None,
        watts=table.number("watts", 0.1, 10_000.0) if table.has("watts") else None,
        cores=table.whole("cores", 1, _MOST_CORES + 1) if table.has("cores") else None,
        cpu_mhz=table.number("cpu_mhz", 1.0, 100_000.0) if table.has("cpu_mhz") else None,
        gpu_mhz=table.number("gpu_mhz", 1.0, 100_000.0) if table.has("gpu_mhz") else None,
    )


def _minimum(table: Table) -> dict[str, str]:
    for key in table.names():
        if key not in MINIMUM:
            table.fail(key, f"some of {', '.join(MINIMUM)}", f"`{key}`", suggest(key, MINIMUM) + table.todo)
    return {key: _version(table, key, r"\d+(\.\d+)*", "a version: numbers with dots") for key in table.names()}


def _gpu_wheel(table: Table) -> GpuWheel:
    file = table.text("file")
    if PurePath(file).name != file or not file.endswith(".whl"):
        table.fail("file", "the name of a wheel, or a pattern of it, without a folder", repr(file))
    return GpuWheel(file, table.text("replaces"), table.text("folder"), table.text("source"))


def _modules(table: Table) -> tuple[str, ...]:
    """Of shipped targets: a release carries no other files, and its family is resolved on the robot."""
    names, known = table.texts("modules"), shipped("target")
    for name in names:
        if name not in known:
            table.fail("modules", f"some of {', '.join(known)}", name, suggest(name, known) + table.todo)
    return names


def _check_artifact(table: Table, target: Target) -> None:
    """TensorRT runs the static artifact, the CPU the dynamic one; the other way round none is int8, or none is fast."""
    if (target.artifact == "trt") != (TENSORRT in target.providers):
        expected = f"trt where `providers` has {TENSORRT}, else cpu"
        table.fail("artifact", expected, f"{target.artifact}, with {', '.join(target.providers)}")
    if target.gpu_wheel is not None and target.providers == (CPU,):
        table.fail("gpu_wheel", "a provider that it brings", f"only {CPU}")


def _check_power(table: Table, target: Target) -> None:
    """The mode is one that the module has, and leaves the two cores online."""
    if not target.power_mode or not target.power_modes:
        return
    modes = {mode.name: mode for mode in target.power_modes}
    if target.power_mode not in modes:
        table.fail("power_mode", f"one of {', '.join(modes)}", repr(target.power_mode))
    online = modes[target.power_mode].cores
    for key, core in (("servo_core", target.servo_core), ("policy_core", target.policy_core)):
        if online is not None and core is not None and core >= online:
            todo = f"set `{key}` in your file, or name another `power_mode`"
            table.fail(key, f"a core that {target.power_mode} leaves online: 0 to {online - 1}", core, todo)
