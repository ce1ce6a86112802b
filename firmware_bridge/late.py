"""Answers that may come late: of which question an answer is, where messages carry no number. Pure.

An answer that is missing when the next cycle begins may arrive in that one and look like one to its question. So until
it is lost for good, a state is dated by the question that the answers at hand may belong to at the earliest; a joint
that has answered once more than it was asked in a cycle has repaid what it owed.
"""

from __future__ import annotations

from collections import deque

_REMEMBERED = 8  # questions


class LateAnswers:
    """All times CLOCK_MONOTONIC, ns."""

    def __init__(self) -> None:
        self.owed: dict[int, tuple[int, int]] = {}  # joint -> (answers that may still come, until ns)
        self._asks = deque([0] * _REMEMBERED, maxlen=_REMEMBERED)  # when the last questions were asked, newest last

    def asked(self, at_ns: int) -> None:
        """A question to every joint."""
        self._asks.append(at_ns)

    def missed(self, joint: int, until_ns: int) -> None:
        """`joint` has not answered the last question; what comes from `until_ns` on is no answer to it any more."""
        before = self.owed[joint][0] if joint in self.owed else 0
        self.owed[joint] = min(before + 1, _REMEMBERED - 1), until_ns

    def repaid(self, joint: int) -> bool:
        """Whether `joint` answers a second time in a cycle because its first answer was that of an earlier one."""
        if joint not in self.owed:
            return False
        count, until_ns = self.owed.pop(joint)
        if count > 1:
            self.owed[joint] = count - 1, until_ns
        return True

    def earliest_ns(self, now_ns: int) -> int:
        """When the question was asked that the oldest of the answers at hand may answer."""
        self.owed = {joint: owed for joint, owed in self.owed.items() if owed[1] > now_ns}
        return self._asks[-1 - max((count for count, _ in self.owed.values()), default=0)]
