"""The virtual CAN bus: hosts hear devices and each other, bus-off silences, an unread host loses frames only."""

import os
import stat
import time

import numpy as np
import pytest

from firmware_bridge.errors import BusOff, PortError, PortGone
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.__main__ import happen
from firmware_bridge.virtual.device import Reply
from firmware_bridge.virtual.line import Line
from firmware_bridge.virtual.plant import JointPlant
from firmware_bridge.virtual.server import Server, UnixCanPort


class Parrot:
    """A device that answers each frame with its id plus one."""

    def __init__(self):
        self.plant = JointPlant([-1], [1], [0])

    def feed(self, data, now_us):
        return [Reply(data._replace(id=data.id + 1), joint=0)]

    def tick(self, now_us):
        return []

    def power(self, on, now_us):
        pass

    def report(self):
        return {}


class Bus:
    """A server that the test turns by hand, and its hosts."""

    def __init__(self, path, line=None):
        self.port = UnixCanPort(path)
        self.server = Server(Parrot(), self.port, line)
        self.hosts = []

    def host(self):
        host = SocketCan(self.port.name)
        host.open()
        self.turn()
        self.hosts.append(host)
        return host

    def turn(self, at_ns=None):
        for fd in self.port.fds:
            for unit in self.port.read(fd):
                self.server.heard(unit, time.monotonic_ns() if at_ns is None else at_ns)
        self.server.pass_on(time.monotonic_ns() if at_ns is None else at_ns)


@pytest.fixture
def bus(tmp_path):
    made = Bus(tmp_path / "bus")
    yield made
    for host in made.hosts:
        host.close()
    made.port.close()


QUESTION, ANSWER = Frame(0x10, b"ab"), Frame(0x11, b"ab")


def test_every_host_hears_the_devices_and_the_other_hosts_but_not_itself(bus):
    first, second = bus.host(), bus.host()
    first.write([QUESTION])
    bus.turn()
    assert first.read() == [ANSWER]
    assert second.read() == [QUESTION, ANSWER]


def test_bus_off_is_an_error_frame_then_silence_and_restart_ends_it(bus):
    host = bus.host()
    host.write([QUESTION])  # on its way when the controller leaves
    happen(bus.server, {"do": "bus-off"})
    with pytest.raises(BusOff):
        host.read()
    bus.turn()
    host.write([QUESTION])
    bus.turn()
    assert host.read() == []
    happen(bus.server, {"do": "restart"})
    host.write([QUESTION])
    bus.turn()
    assert host.read() == [ANSWER]


def test_a_pulled_bus_is_gone_and_a_plugged_one_is_there_under_the_same_name(bus):
    host = bus.host()
    happen(bus.server, {"do": "unplug"})
    assert bus.port.fds == []
    with pytest.raises(PortGone):
        host.read()
    with pytest.raises(PortError):
        SocketCan(bus.port.name).open()
    assert happen(bus.server, {"do": "replug"}) == {"port": bus.port.name}
    again = bus.host()
    again.write([QUESTION])
    bus.turn()
    assert again.read() == [ANSWER]


def test_the_socket_is_for_its_user_only(bus):
    assert stat.S_IMODE(os.stat(bus.port.name).st_mode) == 0o600


def test_a_path_that_no_socket_can_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no bus at"):
        UnixCanPort(tmp_path / ("x" * 120))


def test_a_host_that_does_not_read_loses_frames_and_holds_up_nobody(bus):
    asleep, awake = bus.host(), bus.host()
    count = 0
    for _ in range(2_000):
        awake.write([QUESTION])
        bus.turn()
        count += len(awake.read())
    assert count == 2_000
    assert 0 < len(asleep.read()) < 4_000


def test_noise_that_is_no_frame_does_not_reach_the_device(bus):
    host = bus.host()
    os.write(host.fileno(), b"noise")
    os.write(host.fileno(), kernel_can.pack(QUESTION))
    bus.turn()
    assert host.read() == [ANSWER]


def test_power_that_goes_takes_what_was_on_the_wire_with_it(bus):
    bus.server.line = Line(baud=1_000_000)
    host = bus.host()
    host.write([QUESTION])
    bus.turn(at_ns=0)
    happen(bus.server, {"do": "power", "on": False})
    bus.turn(at_ns=10**9)
    assert host.read() == []
    happen(bus.server, {"do": "power", "on": True})
    host.write([QUESTION])
    bus.turn(at_ns=2 * 10**9)
    bus.turn(at_ns=3 * 10**9)
    assert host.read() == [ANSWER]


def test_a_paced_frame_arrives_with_its_last_bit(bus):
    bus.server.line = Line(baud=1_000_000)
    host = bus.host()
    host.write([QUESTION])
    bus.turn(at_ns=0)
    bus.turn(at_ns=125_999)
    assert host.read() == []
    bus.turn(at_ns=126_000)  # twice 47 + 16 bits
    assert host.read() == [ANSWER]
    assert np.diff([interval[:2] for interval in bus.server.line.busy]).tolist() == [[63_000], [63_000]]


class Chatter:
    """A port whose host has the next frame there before the last one was answered. Ends the server after 50 ms."""

    def __init__(self, fd):
        self.name, self.fds = "chatter", [fd]
        self.end_ns = time.monotonic_ns() + 50_000_000

    def read(self, fd):
        while time.monotonic_ns() < self.end_ns:
            yield Frame(0x100, b"")
        os.close(fd)
        self.fds.clear()

    def write(self, unit):
        pass


def test_a_host_that_never_pauses_takes_no_tick_from_the_device():
    waiting, full = os.pipe()
    os.write(full, b"x")
    ticks = []
    parrot = Parrot()
    parrot.tick = lambda now_us: ticks.append(now_us) or []
    control, end = os.pipe()
    server = Server(parrot, Chatter(waiting))
    os.close(end)  # readable from the start: looked at once a turn
    server.serve(control, lambda: bool(server.port.fds))
    assert len(ticks) > 5
    os.close(full)
    os.close(control)
