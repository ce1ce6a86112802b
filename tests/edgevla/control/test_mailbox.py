"""Orders reach the servo whatever overwrites them, and an old order to arm is not obeyed."""

import os
from types import SimpleNamespace

import pytest

from edgevla.control.exchange import Wishes, pack_wishes
from edgevla.control.machine import Order
from edgevla.control.mailbox import Mailbox
from edgevla.control.shm import Slots

NOW = 10_000_000_000


@pytest.fixture
def desk():
    """The orders slot as the supervisor writes it, and the mailbox that reads it."""
    rings = [Slots.create(64, slots=4) for _ in range(3)]
    fds = dict(zip(("request_fd", "reply_fd", "order_fd"), (os.dup(ring.fd) for ring in rings), strict=True))
    arm = SimpleNamespace(channels=(1, 2))
    config = SimpleNamespace(**fds, kick_fd=-1, arm=arm, schedule=SimpleNamespace(horizon=8))
    yield rings[2], Mailbox(config)
    for ring in rings:
        ring.close()


def test_a_stop_that_many_later_entries_overwrote_is_still_a_stop(desk):
    orders, mailbox = desk
    for number in range(50):
        orders.write(pack_wishes(Wishes(stops=1, instruction=number)))
    assert mailbox.order(NOW) is Order.STOP
    assert mailbox.order(NOW) is Order.NONE
    assert mailbox.instruction == 49


def test_of_a_stop_and_an_arming_that_came_together_the_stop_counts(desk):
    orders, mailbox = desk
    orders.write(pack_wishes(Wishes(stops=1, arms=1, armed_ns=NOW)))
    assert mailbox.order(NOW) is Order.STOP


@pytest.mark.parametrize(("age_s", "order"), [(0.0, Order.ARM), (0.4, Order.ARM), (0.6, Order.NONE)])
def test_an_order_to_arm_expires(desk, age_s, order):
    orders, mailbox = desk
    orders.write(pack_wishes(Wishes(arms=1, armed_ns=NOW - int(age_s * 1e9))))
    assert mailbox.order(NOW) is order


def test_words_and_rest_are_no_order(desk):
    orders, mailbox = desk
    orders.write(pack_wishes(Wishes(instruction=2, rest=True)))
    assert mailbox.order(NOW) is Order.NONE
    assert (mailbox.instruction, mailbox.rest) == (2, True)
