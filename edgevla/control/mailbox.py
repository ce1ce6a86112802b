"""The servo's side of the shared memory: orders and answers in, requests out. Nothing here waits."""

from __future__ import annotations

import contextlib
import os

import numpy as np

from edgevla.control.clock import Grid
from edgevla.control.config import ServoConfig
from edgevla.control.exchange import Reply, Request, Status, Wishes, pack_request, unpack_reply, unpack_wishes
from edgevla.control.machine import Order
from edgevla.control.schedule import Answer
from edgevla.control.shm import Slots

ARM_EXPIRES_S = 0.5  # s: every command expires, this one too


class Mailbox:
    """What the supervisor and the policy process have written, newest first.

    instruction: epoch of the words in force; rest: the operator wants the arm at rest; pending: the newest answer.
    """

    def __init__(self, config: ServoConfig) -> None:
        self._requests, self._replies = Slots.attach(config.request_fd), Slots.attach(config.reply_fd)
        self._orders, self._kick_fd = Slots.attach(config.order_fd), config.kick_fd
        self._shape = (config.schedule.horizon, len(config.arm.channels))
        self._heard = self._answered = 0  # sequences of the newest order and answer
        self._wishes = Wishes()
        self.instruction = 0
        self.rest = False
        self.pending: Reply | None = None

    def order(self, now_ns: int) -> Order:
        """The strongest order since the last call: of a stop and an arming that came together, the stop.

        An order to arm that is older than `ARM_EXPIRES_S` is not obeyed: whoever gave it has looked away since.
        """
        found = self._orders.read(after=self._heard)
        if found is None:
            return Order.NONE
        self._heard, before, wishes = found[0], self._wishes, unpack_wishes(found[1])
        self._wishes, self.instruction, self.rest = wishes, wishes.instruction, wishes.rest
        if wishes.stops != before.stops:
            return Order.STOP
        fresh = now_ns - wishes.armed_ns <= ARM_EXPIRES_S * 1e9
        return Order.ARM if wishes.arms != before.arms and fresh else Order.NONE

    def answer(self, ticks: Grid) -> Answer | None:
        """The newest answer in ticks of the grid; one that holds nonsense is not valid."""
        found = self._replies.read(after=self._answered)
        if found is not None:
            self._answered, payload = found
            with contextlib.suppress(ValueError):  # a policy that writes nonsense costs a chunk, not the loop
                self.pending = unpack_reply(payload)
        reply = self.pending
        if reply is None:
            return None
        sound = reply.setpoints.shape == self._shape and bool(np.isfinite(reply.setpoints).all())
        done = ticks.first_step_at_or_after(reply.done_ns)
        return Answer(reply.tick, done, valid=reply.status is Status.OK and sound)

    def ask(self, request: Request) -> None:
        """Hand a request to the policy process and wake it."""
        self._requests.write(pack_request(request))
        os.eventfd_write(self._kick_fd, 1)
