"""pi05 of LeRobot: pi0 with the state among the words and norms that flow time conditions, see `pi0`."""

from __future__ import annotations

from export.teachers.lerobot.pi0 import build as build
