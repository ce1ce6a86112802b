"""`canopen`, which nobody here wrote, drives our virtual drive; and its frames equal the ones that we make."""

import struct
import time

import canopen
import pytest
from canopen.emcy import EmcyError
from canopen.profiles.p402 import BaseNode402, State402
from canopen.sdo import SdoAbortedError

from firmware_bridge.cia402 import codec, sentences, states
from firmware_bridge.cia402.objects import EDS, load
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.cia402.arms import COUNTS_PER_RAD, JOINTS
from tests.firmware_bridge.unix_bus import UnixBus


@pytest.fixture
def device():
    with VirtualProcess("cia402", JOINTS[:1]) as process:
        yield process


@pytest.fixture
def network(device):
    bus = UnixBus(device.port)
    net = canopen.Network(bus)
    net.NOTIFIER_CYCLE = 0.02
    net.connect()
    yield net
    net.disconnect()


@pytest.fixture
def node(network):
    drive = BaseNode402(1, str(EDS))
    network.add_node(drive)
    return drive


def configured(node):
    """As canopen's own users do it: PDOs over SDO, then the state machine by PDO, one SYNC each 5 ms."""
    node.nmt.state = "PRE-OPERATIONAL"
    for pdo, places in ((node.rpdo[1], (0x6040, 0x607A)), (node.tpdo[1], (0x6041, 0x6064))):
        pdo.clear()
        for index in places:
            pdo.add_variable(index)
        pdo.cob_id, pdo.trans_type, pdo.enabled = (0x201 if pdo is node.rpdo[1] else 0x181), 1, True
        pdo.save()
    node.sdo[0x6060].raw = 8
    node.setup_402_state_machine(read_pdos=False)
    node.rpdo[1].period = None
    node.nmt.state = "OPERATIONAL"


def climb(network, node):
    """Up to operation enabled: each controlword in RPDO1 and the SYNC behind it."""
    node.rpdo[1][0x607A].raw = node.sdo[0x6064].raw
    for word in (0x06, 0x07, 0x0F):
        node.rpdo[1][0x6040].raw = word
        node.rpdo[1].transmit()
        network.sync.transmit()
        time.sleep(0.01)
        network.sync.transmit()
        assert node.tpdo[1].wait_for_reception(1.0)
    return node.state


def test_canopen_reads_the_identity_of_the_drive(node):
    assert node.sdo[0x1000].raw == 0x00020192
    assert node.sdo["Manufacturer device name"].raw == "edgevla virtual drive"  # segmented
    assert node.sdo[0x1018][4].raw == 0x1001


def test_eds_says_the_same_to_canopen_and_to_the_virtual_drive():
    theirs, ours = canopen.import_od(str(EDS), 5), load(5)
    for (index, sub), entry in ours.items():
        variable = theirs.get_variable(index, sub)
        assert variable is not None, f"{index:04X}:{sub:02X}"
        default = variable.default.encode() if isinstance(variable.default, str) else variable.default
        assert (variable.name.split(".")[-1], default) == (entry.name, entry.default)
        assert variable.writable == entry.writable


def test_canopen_takes_the_drive_through_its_states(network, node, device):
    configured(node)
    assert climb(network, node) == "OPERATION ENABLED"
    assert device.do("report")["device"]["states"] == ["OPERATION_ENABLED"]
    node.rpdo[1][0x6040].raw = State402.CW_QUICK_STOP
    node.rpdo[1].transmit()
    network.sync.transmit()
    time.sleep(0.02)
    assert device.do("report")["device"]["states"] == ["SWITCH_ON_DISABLED"]  # 605A is 2 in the EDS


def test_state_setter_of_canopen_works_over_sdo_too(node, device):
    node.nmt.state = "PRE-OPERATIONAL"
    node.sdo[0x6060].raw = 8
    node.state = "OPERATION ENABLED"
    assert node.op_mode == "CYCLIC SYNCHRONOUS POSITION"
    assert device.do("report")["torque_on"] == [True]


def test_drive_goes_where_canopen_sends_it(network, node):
    configured(node)
    climb(network, node)
    goal = node.sdo[0x6064].raw + 2000
    node.rpdo[1][0x607A].raw = goal
    node.rpdo[1].transmit()
    for _ in range(100):
        network.sync.transmit()
        node.tpdo[1].wait_for_reception(1.0)
        time.sleep(0.005)
    assert node.tpdo[1][0x6064].raw == pytest.approx(goal, abs=0.02 * COUNTS_PER_RAD)  # gravity sags the joint


@pytest.mark.parametrize(
    ("index", "sub", "data", "code"),
    [
        (0x5FFF, 0, b"\0", 0x06020000),
        (0x1018, 9, b"\0", 0x06090011),
        (0x6041, 0, b"\0\0", 0x06010002),
        (0x6060, 0, b"\0\0", 0x06070012),
        (0x607A, 0, b"\0\0", 0x06070013),
        (0x6060, 0, b"\x01", 0x06090030),
        (0x1A00, 0, b"\x02", 0x06010000),
    ],
)
def test_refused_writes_carry_the_abort_code_that_canopen_knows(node, index, sub, data, code):
    with pytest.raises(SdoAbortedError) as caught:
        node.sdo.download(index, sub, data)
    assert caught.value.code == code
    assert code in sentences.ABORTS


def test_every_abort_code_of_canopen_has_a_sentence_here():
    assert set(SdoAbortedError.CODES) == set(sentences.ABORTS)


def test_states_and_controlwords_are_those_of_canopen():
    names = {name.replace(" ", "_"): bits for name, bits in State402.SW_MASK.items()}
    alike = {"NOT_READY_TO_SWITCH_ON": "NOT_READY", "READY_TO_SWITCH_ON": "READY", "QUICK_STOP_ACTIVE": "QUICK_STOP"}
    alike["FAULT_REACTION_ACTIVE"] = "FAULT_REACTION"
    for name, (mask, bits) in names.items():
        for word in range(0x80):
            ours = states.state_of(word)
            theirs = word & mask == bits
            assert theirs == (ours is not None and ours.name == alike.get(name, name))
    table = State402.TRANSITIONTABLE
    assert table["SWITCH ON DISABLED", "READY TO SWITCH ON"] == states.SHUTDOWN
    assert table["READY TO SWITCH ON", "SWITCHED ON"] == states.SWITCH_ON
    assert table["SWITCHED ON", "OPERATION ENABLED"] == table["QUICK STOP ACTIVE", "OPERATION ENABLED"] == states.ENABLE
    assert table["OPERATION ENABLED", "QUICK STOP ACTIVE"] == states.QUICK_STOP
    assert table["FAULT", "SWITCH ON DISABLED"] == states.FAULT_RESET


def test_lost_heartbeat_is_an_emergency_that_canopen_reads(network, node, device):
    node.nmt.state = "PRE-OPERATIONAL"
    node.sdo[0x1016][1].raw = 0x7F << 16 | 50
    node.sdo[0x1029][1].raw = 1
    configured(node)
    climb(network, node)
    network.send_message(0x77F, b"\x05")
    emcy = node.emcy.wait(0x8130, timeout=2.0)
    assert isinstance(emcy, EmcyError)
    assert sentences.sentence(emcy.code).startswith("heartbeat of the host")
    time.sleep(0.2)
    assert device.do("report")["device"]["states"] == ["FAULT"]


def test_drive_sends_the_heartbeat_that_canopen_waits_for(node):
    node.sdo[0x1017].raw = 20
    node.nmt.state = "OPERATIONAL"
    until_s = time.monotonic() + 5.0
    while node.nmt.wait_for_heartbeat(1.0) != "OPERATIONAL" and time.monotonic() < until_s:
        pass  # one from before the command may still be on its way
    assert node.nmt.state == "OPERATIONAL"


def test_our_frames_are_those_of_canopen(network, node):
    configured(node)
    bus = network.bus
    bus.sent.clear()
    node.nmt.state = "OPERATIONAL"
    network.sync.transmit()
    pdo = node.rpdo[1]
    pdo[0x6040].raw, pdo[0x607A].raw = 0x0F, -123456
    pdo.transmit()
    node.sdo.upload(0x1018, 1)
    theirs = [(message.arbitration_id, bytes(message.data)) for message in bus.sent]
    ours = [codec.nmt(codec.START, 1), codec.SYNC, codec.command(1, 0x0F, -123456), codec.upload_request(1, 0x1018, 1)]
    assert theirs == [(frame.id, frame.data) for frame in ours]


def test_our_heartbeat_is_the_one_of_a_canopen_node():
    ours = codec.heartbeat(127)
    assert (ours.id, ours.data) == (0x700 + 127, struct.pack("B", 5))
