"""What a target computer and an arm can do, as TOML, and its typed loader."""

from profiles.errors import ProfileError
from profiles.loader import (
    Loaded,
    list_arms,
    list_targets,
    load_arm,
    load_file,
    load_target,
    load_with_origins,
)
from profiles.model import ArmProfile, CameraSpec, Channel, GpuWheel, PowerMode, StateChannel, Target
from profiles.modules import BoardFacts, resolve_module
from profiles.toml_text import arm_toml, target_toml

__all__ = [
    "ArmProfile",
    "BoardFacts",
    "CameraSpec",
    "Channel",
    "GpuWheel",
    "Loaded",
    "PowerMode",
    "ProfileError",
    "StateChannel",
    "Target",
    "arm_toml",
    "list_arms",
    "list_targets",
    "load_arm",
    "load_file",
    "load_target",
    "load_with_origins",
    "resolve_module",
    "target_toml",
]
