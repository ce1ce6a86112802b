"""What a module can do at most, by its data sheet and its power mode. Pure.

TOPS on NVIDIA's data sheets are sparse int8; dense is half of that, and dense FP16 half of dense int8. Only the
GPU's share counts: AGX and NX list the accelerators' TOPS in the same sum. A core of the Cortex-A78AE has two 128-bit
ASIMD pipes (Arm's software optimization guide): 2 x 4 FP32 multiply-adds or 2 x 16 int8 ones (SDOT) a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevla.errors import BadInput, explain
from profiles.model import Target

FP32_OPS, INT8_OPS = 2 * 4 * 2, 2 * 16 * 2  # an A78AE core a cycle; an operation is a multiplication or an addition


@dataclass(frozen=True)
class Module:
    """Data sheet. `sparse_tops`: int8 of the GPU alone, at `gpu_mhz`."""

    sparse_tops: float
    gpu_mhz: float
    bandwidth_gbs: float
    cores: int
    cpu_mhz: float


MODULES = {  # by target; NVIDIA's data sheets of the modules, without Super mode
    "jetson-orin-nano-4": Module(20.0, 625.0, 34.0, 6, 1500.0),
    "jetson-orin-nano-8": Module(40.0, 625.0, 68.0, 6, 1500.0),
    "jetson-orin-nx-8": Module(50.0, 765.0, 102.4, 6, 2000.0),
    "jetson-orin-nx-16": Module(60.0, 918.0, 102.4, 8, 2000.0),
    "jetson-agx-orin-32": Module(108.0, 930.0, 204.8, 8, 2200.0),
    "jetson-agx-orin-64": Module(170.0, 1300.0, 204.8, 12, 2200.0),
}


@dataclass(frozen=True)
class Ceilings:
    """Of one engine. Operations a second in Gop/s, bytes in GB/s; `launch_us`: assumed for each operator."""

    engine: str
    int8_gops: float
    float_gops: float
    bandwidth_gbs: float
    bandwidth_share: float  # of it that the engine reaches at the slow end
    launch_us: float
    transfer: float  # how many times longer, at the slow end, than this host's share of its peaks would give
    said: tuple[str, ...]  # where each number is from


def of_target(target: Target) -> list[Ceilings]:
    """One core and the GPU, in the power mode that the target expects. Raises BadInput for a module not known here."""
    module = MODULES.get(target.name)
    if module is None:
        todo = "name the module itself"
        raise BadInput(explain(f"no data-sheet ceilings of {target.name}", ", ".join(MODULES), target.name, todo))
    mode = next((mode for mode in target.power_modes if mode.name == target.power_mode), None)
    cpu_mhz = min(module.cpu_mhz, (mode and mode.cpu_mhz) or module.cpu_mhz)
    gpu_mhz = min(module.gpu_mhz, (mode and mode.gpu_mhz) or module.gpu_mhz)
    dense = module.sparse_tops / 2 * gpu_mhz / module.gpu_mhz * 1e3
    core = cpu_mhz / 1e3
    return [
        Ceilings("CPU, one core", INT8_OPS * core, FP32_OPS * core, module.bandwidth_gbs, 0.25, 2.0, 2.0, (
            f"one A78AE core at {cpu_mhz:g} MHz: {INT8_OPS} int8 and {FP32_OPS} FP32 operations a cycle (Arm's guide)",
            f"memory: {module.bandwidth_gbs:g} GB/s (data sheet); one core reaches a quarter at the slow end (assumed)",
            "2 us between operators (assumed)",
        )),
        Ceilings("GPU", dense, dense / 2, module.bandwidth_gbs, 0.7, 10.0, 2.0, (
            (f"GPU at {gpu_mhz:g} MHz: {dense / 1e3:.3g} dense int8 TOPS, half of the sparse ones "
            f"({module.sparse_tops:g}, data sheet)"),
            "float operators in FP16, at half of dense int8",
            (f"memory: {module.bandwidth_gbs:g} GB/s (data sheet), shared with the CPU; "
            "70 % reached at the slow end (assumed)"),
            "a launch of 10 us for every operator, none fused (assumed); no such engine was ever built here",
        )),
    ]  # fmt: skip
