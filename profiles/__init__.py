"""What a target computer and an arm can do, as TOML, and its typed loader."""

from profiles.errors import ProfileError
from profiles.loader import list_arms, list_targets, load_arm, load_file, load_target
from profiles.model import ArmProfile, CameraSpec, Channel, StateChannel, Target

__all__ = [
    "ArmProfile",
    "CameraSpec",
    "Channel",
    "ProfileError",
    "StateChannel",
    "Target",
    "list_arms",
    "list_targets",
    "load_arm",
    "load_file",
    "load_target",
]
