"""Errors of the profile loader."""

from __future__ import annotations


class ProfileError(Exception):
    """A profile is unknown, unreadable, incomplete or contradicts itself (minimum above maximum)."""

    exit_code = 4
