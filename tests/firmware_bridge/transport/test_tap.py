"""Something between a driver and its transports, wherever the driver keeps them."""

from firmware_bridge.config import BusConfig
from firmware_bridge.feetech import driver as feetech
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.transport.tap import tap
from tests.firmware_bridge.feetech.arms import JOINTS, OPTIONS, WATCHDOG_S


class Wrapper:
    def __init__(self, inner):
        self.inner = inner


def made(port):
    return feetech.make(BusConfig("main", port, 1_000_000, JOINTS), WATCHDOG_S, OPTIONS)


def test_the_driver_and_its_parts_get_the_same_wrapper():
    arm = made("/dev/ttyA")
    (wrapper,) = tap(arm, Wrapper)
    assert isinstance(wrapper.inner, SerialTransport)
    assert arm.transport is wrapper
    kept = [part for part in vars(arm._bus).values() if isinstance(part, Wrapper | SerialTransport)]
    assert kept == [wrapper]


def test_an_arm_over_two_buses_gets_one_wrapper_for_each():
    class Pair:
        def __init__(self):
            self.parts = (made("/dev/ttyA"), made("/dev/ttyB"))

    Pair.__module__ = "firmware_bridge.pair"
    pair = Pair()
    wrappers = tap(pair, Wrapper)
    assert sorted(wrapper.inner.name for wrapper in wrappers) == ["/dev/ttyA", "/dev/ttyB"]
    assert {part.transport for part in pair.parts} == set(wrappers)


def test_what_holds_no_transport_has_no_wrapper():
    assert tap(JOINTS[0], Wrapper) == []
    assert tap(Frame(1, b"").__class__, Wrapper) == []
