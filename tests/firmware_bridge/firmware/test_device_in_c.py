"""The device in C beside `VirtualDevice`: the same random lines give the same bytes, modes and counts."""

import re
import struct
from binascii import crc_hqx

import numpy as np
import pytest

from edgevla.control.limiter import Limits, Motion, slow_down, track
from firmware_bridge.arm import ChannelLimits, Fault, Mode
from firmware_bridge.cobs import cobs_encode
from firmware_bridge.edgelink.codec import (
    ArmRequest,
    Decoder,
    Disarm,
    Hello,
    HelloAck,
    Ping,
    State,
    Stop,
    Verdict,
    encode,
    schema_hash,
)
from firmware_bridge.edgelink.controller import IntegratorPlant, VirtualDevice
from tests.firmware_bridge.firmware.native import NativeDevice

CHANNELS = (ChannelLimits("x", "m", -0.5, 0.5), ChannelLimits("gripper", "1", -1.0, 1.0))
SCHEMA = schema_hash(CHANNELS)
LOW, HIGH = np.float64(np.float32([-0.5, -1.0])), np.float64(np.float32([0.5, 1.0]))
START = np.array([0.0, -1.0], np.float32)
PERIOD_US = 5_000
AT_ONCE = [1e6, 1e12, 1e18, 1e12]  # velocity, acceleration, jerk, deceleration: what no limiter would be
GENTLE = [2.0, 20.0, 400.0, 10.0]


def rows_of(rates):
    return np.array([[low, high, *rates] for low, high in zip(LOW, HIGH, strict=True)])


class LimitedDevice(VirtualDevice):
    """What the firmware adds to `VirtualDevice`: set-points reach the plant through the limiter, a stop decelerates."""

    def __init__(self, plant, channels, held, rates):
        super().__init__(plant, channels, held)
        self._rates = Limits(LOW, HIGH, *(np.full(2, rate) for rate in rates), PERIOD_US / 1e6)
        self._motion, self._driven = Motion.at_rest(held), False

    @property
    def _following(self):
        return self.mode is Mode.ARMED and self.commands_since_arming > 0

    def _setpoint(self):
        return self._motion.setpoint.astype(np.float32)

    def _leaving(self, step, *arguments):
        before = self._following
        result = step(*arguments)
        if before and not self._following:
            self.held, self._motion = self._setpoint(), Motion(*self._rates_now())
        return result

    def _rates_now(self):
        return self._motion.setpoint, self._motion.velocity, self._motion.acceleration

    def _check_watchdog(self, now_us):
        self._leaving(super()._check_watchdog, now_us)

    def _obey(self, message, now_us):
        self._leaving(super()._obey, message, now_us)

    def _greet(self, hello, now_us):
        if self._following:
            self.held = self._setpoint()
        return self._leaving(super()._greet, hello, now_us)

    def tick(self, now_us, periods=1):
        self._check_watchdog(now_us)
        if self._following:
            self._motion, _ = track(self._rates, self._motion, self.held, periods * (PERIOD_US / 1e6))
            self._driven = True
        elif not self._motion.resting:
            self._motion, _ = slow_down(self._rates, self._motion, periods * (PERIOD_US / 1e6))
            self.held = self._setpoint()
        else:
            self._driven = self._driven and self.mode is not Mode.DISARMED
        if self._driven:
            self._plant.step(self._setpoint())
        return self._setpoint()


def frame(body):
    return b"\0" + cobs_encode(body + struct.pack("<H", crc_hqx(body, 0xFFFF))) + b"\0"


class Line:
    """A host of random manners: mostly sound, then late, doubled, broken, foreign or plain noise."""

    def __init__(self, seed, now_us):
        self.rng, self.now_us = np.random.default_rng(seed), now_us
        self.seq = int(self.rng.integers(0, 65_536))
        self.sent = [b""]

    def next(self):
        rng = self.rng
        wire = self._message() if rng.random() < 0.9 else self._noise()
        self.sent = [*self.sent[-5:], wire]
        manner = rng.random()
        if manner < 0.04:
            wire = bytearray(wire or b"\1")
            wire[rng.integers(0, len(wire))] ^= 1 << int(rng.integers(0, 8))
        elif manner < 0.08:
            wire = wire[: rng.integers(0, len(wire) + 1)]
        elif manner < 0.12:
            wire = wire + self.sent[int(rng.integers(0, len(self.sent)))]
        return bytes(wire)

    def _message(self):
        rng = self.rng
        self.seq = (self.seq + 1) & 0xFFFF
        seq = (self.seq + int(rng.choice([0, 1, -1, -2, 0x8000], p=[0.92, 0.02, 0.02, 0.02, 0.02]))) & 0xFFFF
        expiry = self.now_us + int(rng.choice([12_500, 12_500, 12_500, 12_500, 0, 1, -5, 1_000_000, 1_000_001]))
        kind = rng.choice(
            ["command", "command", "command", "command", "arm", "stop", "ping", "disarm", "hello", "odd"],
            p=[0.2, 0.2, 0.2, 0.1, 0.15, 0.02, 0.05, 0.02, 0.03, 0.03],
        )
        if kind == "command":
            return self._command(seq, expiry & 0xFFFF_FFFF)
        if kind == "hello":
            return encode(Hello(seq, SCHEMA if rng.random() < 0.8 else 0x0BAD))
        if kind == "odd":
            odd = [HelloAck(seq, 1, 2, 3, (0.5, 1.0)), State(seq, 0, 1, 0, 0, 0, (0.0,), (np.nan,))]
            body = struct.pack("<BBH", int(rng.integers(0, 256)), int(rng.integers(0, 2)), seq) + rng.bytes(
                int(rng.integers(0, 40))
            )
            return (rng.choice([0, 1]) and encode(odd[int(rng.integers(0, 2))])) or frame(body)
        plain = {"stop": Stop(seq), "ping": Ping(seq), "disarm": Disarm(seq), "arm": ArmRequest(seq, expiry)}
        return encode(plain[str(kind)])

    def _command(self, seq, expiry_us):
        rng = self.rng
        floats = [float(np.float32(x)) for x in rng.uniform(LOW, HIGH)]
        odd = rng.random()
        if odd < 0.05:
            floats[int(rng.integers(0, 2))] = float(rng.choice([np.nan, np.inf, -np.inf, 1e30, 0.50000006, 1.0000001]))
        elif odd < 0.08:
            floats = floats * int(rng.choice([0, 2, 24]))
        elif odd < 0.12:
            floats = [float(x) for x in rng.choice([LOW, HIGH])]
        return frame(struct.pack(f"<BBHI{len(floats)}f", 4, 0, seq, expiry_us, *floats))

    def _noise(self):
        size = int(self.rng.choice([1, 5, 40, 209, 210, 211, 400]))
        data = self.rng.bytes(size)
        return data if self.rng.random() < 0.5 else data.replace(b"\0", b"\1")


def pair(c, rates, python, share):
    """The same device twice: in C and in Python, each with a plant of its own."""
    plants = [IntegratorPlant(START, share=share) for _ in range(2)]
    return NativeDevice(c, plants[0], SCHEMA, rows_of(rates), period_us=PERIOD_US), python(plants[1])


def halves(data, rng):
    cut = int(rng.integers(0, len(data) + 1))
    return data[:cut], data[cut:]


def talk(line, ours, theirs, steps, tick_always):
    """Both hear the same; (answers, modes seen, counts). `tick_always`: after each frame, so that no stop comes in the
    same period as a command: such a command is the one thing that the firmware does not carry out."""
    modes, answers = set(), 0
    for _ in range(steps):
        line.now_us += int(
            line.rng.choice([100, 900, 5_000, 30_000, 99_999, 100_001], p=[0.5, 0.3, 0.17, 0.02, 0.005, 0.005])
        )
        data = line.next()
        for piece in re.findall(rb"[^\0]*\0?", data) if tick_always else halves(data, line.rng):
            said = ours.feed(piece, line.now_us)
            assert said == theirs.feed(piece, line.now_us)
            answers += len(Decoder().feed(said))
            if tick_always:
                ours.tick(line.now_us), theirs.tick(line.now_us)
        if not tick_always and line.rng.random() < 0.6:
            periods = int(line.rng.choice([1, 1, 1, 2, 9]))
            assert ours.tick(line.now_us, periods).tobytes() == theirs.tick(line.now_us, periods).tobytes()
        modes.add(theirs.mode)
    counts = {"mode": theirs.mode, "faults": theirs.faults, **theirs.counts_dict()}
    assert ours.counts() == counts
    return answers, modes, counts


def total(results, name):
    return sum(counts[name] for *_, counts in results)


def test_with_rates_that_limit_nothing_it_is_the_virtual_device_byte_by_byte(c):
    results = []
    for seed in range(12):
        ours, theirs = pair(c, AT_ONCE, lambda plant: VirtualDevice(plant, CHANNELS, START), share=1.0)
        line = Line(seed, now_us=2**32 - 1_000_000)  # both clocks wrap under way
        results.append(talk(line, ours, theirs, 400, tick_always=True))
    assert set.union(*(modes for _, modes, _ in results)) == set(Mode)
    refused = {name for *_, counts in results for name, times in counts["refused"].items() if times}
    assert refused == {verdict.name.lower() for verdict in Verdict if verdict}, "some verdicts never came up"
    thrown = {name for *_, counts in results for name, times in counts["decoder"].items() if times}
    assert thrown == {"frames", "bad_stuffing", "bad_crc", "bad_message", "too_short", "too_long"}
    assert total(results, "accepted") > 400
    assert total(results, "watchdog_trips") > 5


@pytest.mark.parametrize("rates", [GENTLE, [0.8, 128.0, 20480.0, 8.0]], ids=["gentle", "Sawyer"])
def test_with_a_limiter_it_is_the_virtual_device_and_the_limiter_of_python(c, rates):
    results = []
    for seed in range(6):
        ours, theirs = pair(c, rates, lambda plant: LimitedDevice(plant, CHANNELS, START, rates), share=0.5)
        results.append(talk(Line(100 + seed, now_us=seed), ours, theirs, 300, tick_always=False))
    assert total(results, "accepted") > 100


# --- the stop ladder, by hand ---


class Bench:
    """A device in C that is armed and on its way to x = 0.4."""

    def __init__(self, c, rates=GENTLE):
        self.plant = IntegratorPlant(np.array([0.0, -1.0], np.float32), share=1.0)
        self.device = NativeDevice(c, self.plant, SCHEMA, rows_of(rates), period_us=PERIOD_US)
        self.now_us, self.seq, self.path = 1_000, 0, []
        self.ask(Hello, SCHEMA)
        self.arm()

    def ask(self, kind, *fields):
        self.seq += 1
        (answer,) = Decoder().feed(self.device.feed(encode(kind(self.seq, *fields)), self.now_us))
        return answer

    def arm(self):
        return self.ask(ArmRequest, self.now_us + 12_500)

    def command(self, x):
        floats = struct.pack("<BBHI2f", 4, 0, self.seq + 1, self.now_us + 12_500, x, -1.0)
        self.seq += 1
        (answer,) = Decoder().feed(self.device.feed(frame(floats), self.now_us))
        return answer

    def period(self):
        self.now_us += PERIOD_US
        self.path.append(float(self.device.tick(self.now_us)[0]))
        return self.device.driven

    def on_its_way(self, periods=30):
        for _ in range(periods):
            self.command(0.4)
            self.period()
        return self


def rates_of(path):
    """Largest |velocity| and |acceleration| that the set-points show."""
    velocity = np.diff(path) / (PERIOD_US / 1e6)
    return np.abs(velocity).max(), np.abs(np.diff(velocity)).max() / (PERIOD_US / 1e6)


@pytest.mark.parametrize("end", ["stop", "watchdog", "disarm", "hello", "board"])
def test_whatever_ends_the_motion_it_decelerates_within_limits_to_rest(c, end):
    bench = Bench(c).on_its_way()
    before = len(bench.path)
    if end == "watchdog":
        bench.now_us += 100_001
    if end == "board":
        bench.device.board_faults = 0x0100
    if end in ("stop", "disarm"):
        bench.ask(Stop if end == "stop" else Disarm)
    if end == "hello":
        bench.ask(Hello, SCHEMA)
    for _ in range(200):
        bench.period()
    after = bench.path[before:]
    assert after[0] > bench.path[before - 1], "it was moving, and a moving arm cannot stand at once"
    assert after[-1] == after[-20] < 0.4, "at rest, and short of where the commands went"
    velocity, acceleration = rates_of(bench.path)
    assert velocity <= GENTLE[0]
    assert acceleration <= GENTLE[1] * 1.01  # float32 on the wire
    state = bench.ask(Ping)
    driven = bench.period()
    expected = {
        "stop": (Mode.STOPPED, Fault.STOP, True),
        "watchdog": (Mode.STOPPED, Fault.WATCHDOG, True),
        "board": (Mode.STOPPED, 0x0100, True),
        "disarm": (Mode.DISARMED, 0, False),
        "hello": (Mode.DISARMED, 0, False),
    }
    assert (state.mode, state.faults, driven) == expected[end]


def test_an_accepted_command_is_reached_only_within_the_limits(c):
    bench = Bench(c)
    for _ in range(200):
        bench.command(0.4)
        bench.period()
    assert bench.path[-1] == np.float32(0.4)
    velocity, acceleration = rates_of(bench.path)
    assert 0.5 * GENTLE[0] < velocity <= GENTLE[0]
    assert acceleration <= GENTLE[1] * 1.01


def test_it_is_not_driven_before_its_first_command_and_tells_the_host_where_it_holds(c):
    bench = Bench(c)
    assert bench.period() is False
    bench.on_its_way()
    bench.ask(Stop)
    for _ in range(200):
        bench.period()
    assert bench.ask(Hello, SCHEMA).held[0] == bench.path[-1]


def test_a_re_armed_arm_holds_until_its_first_command(c):
    bench = Bench(c).on_its_way()
    bench.ask(Stop)
    for _ in range(200):
        bench.period()
    rest = bench.path[-1]
    assert bench.arm().mode == Mode.ARMED
    assert bench.period() is True, "a stopped arm that held keeps holding"
    assert bench.path[-1] == rest


def test_a_board_fault_that_stays_is_told_in_the_answer_to_arm(c):
    bench = Bench(c)
    bench.device.board_faults = 0x8000
    state = bench.arm()
    assert (state.mode, state.faults) == (Mode.STOPPED, 0x8000)
    bench.device.board_faults = 0
    assert bench.ask(Ping).mode == Mode.STOPPED, "it latches: nothing re-arms by itself"
    assert bench.arm().mode == Mode.ARMED


def test_an_answer_without_room_is_dropped_whole_and_counted(c):
    plant = IntegratorPlant(START, share=1.0)
    device = NativeDevice(c, plant, SCHEMA, rows_of(GENTLE))
    one = device.feed(encode(Ping(1)), 0)
    device._out = type(device._out)()  # as large as before; the C side is told less below
    position, effort = np.array(START), np.zeros(2, np.float32)
    from tests.firmware_bridge.firmware.native import pointer

    both = encode(Ping(1)) + encode(Ping(2))
    size = c.c.shim_feed(both, len(both), 0, pointer(position), pointer(effort), 0, device._out, len(one) + 3)
    assert device._out.raw[:size] == one
    out = np.empty(19, np.uint32)
    c.c.shim_counts(pointer(out))
    assert out[4] == 1


def test_every_float16_is_written_as_python_writes_it(c):
    rng = np.random.default_rng(0)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / 2
    values = np.concatenate([halves, middles, np.nextafter(middles, np.float32(np.inf)),
                             np.nextafter(middles, np.float32(0)),
                             rng.integers(0, 2**32, 5_000, dtype=np.uint32).view(np.float32),
                             np.float32([65504, 65519.99, 65520, 1e30, np.inf, 1e-30, 0.0])])  # fmt: skip
    for value in np.concatenate([values, -values]).tolist():
        sound = value if value != value else max(-65504.0, min(value, 65504.0))
        assert c.c.shim_half(value) == struct.unpack("<H", struct.pack("<e", sound))[0], value


def test_an_unsound_configuration_starts_no_device(c):
    for column, value in ((1, -0.6), (2, 0.0), (3, np.inf), (4, np.nan), (5, 1e3), (0, np.nan)):
        rows = rows_of(GENTLE)
        rows[1, column] = value if column != 1 else -2.0
        with pytest.raises(AssertionError):
            NativeDevice(c, IntegratorPlant(START), SCHEMA, rows)
