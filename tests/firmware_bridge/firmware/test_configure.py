"""config.h: the profile's numbers, and a release whose C and Python belong together."""

import subprocess
from dataclasses import replace

import pytest

from edgevla.cli.firmware import device_config
from firmware_bridge.edgelink.codec import schema_hash
from firmware_bridge.errors import FirmwareError
from firmware_bridge.firmware.configure import DeviceConfig, config_header
from firmware_bridge.firmware.image import read_image
from profiles import load_arm
from tests.firmware_bridge.firmware import native
from tests.firmware_bridge.firmware.boards import build, missing

ARM = load_arm("metaworld-sawyer")
CONFIG = device_config(ARM, 0.0125)


PROGRAM = '#include "config.h"\nint main(void) { return (int)CONFIG.channels + (int)CONFIG_START[0]; }\n'


def complaints(folder, text):
    """What the compiler says of a program that includes `text` as config.h; "" when it compiles."""
    (folder / "config.h").write_text(text)
    (folder / "main.c").write_text(PROGRAM)
    command = [native.compiler(), *native.FLAGS, "-c", folder / "main.c", "-o", folder / "main.o"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stderr if done.returncode else ""


@pytest.fixture
def folder(tmp_path):
    if native.compiler() is None:
        pytest.skip(native.NO_COMPILER)
    return tmp_path


def test_the_header_compiles_and_says_the_hosts_schema(folder):
    text = config_header(CONFIG)
    assert complaints(folder, text) == ""
    assert f"{schema_hash(ARM.channels):#010x}u, 100000u, 12500u, 4u" in text


@pytest.mark.parametrize(
    ("number", "other"),
    [("EL_COMMAND == 4", "EL_COMMAND == 5"), ("EL_OUT_OF_LIMIT == 8", "EL_OUT_OF_LIMIT == 9"),
     ("EL_MAX_BODY == 208", "EL_MAX_BODY == 210"), ("EL_VERDICTS == 9", "EL_VERDICTS == 10")],
)  # fmt: skip
def test_c_of_another_release_does_not_compile(folder, number, other):
    text = config_header(CONFIG)
    assert number in text
    assert "is not that of this release" in complaints(folder, text.replace(number, other))


def test_no_name_or_unit_of_a_channel_gets_out_of_its_comment(folder):
    odd = replace(ARM.channels[0], name="x */ #error", unit="*/ }; //")
    assert complaints(folder, config_header(replace(CONFIG, channels=(odd, *ARM.channels[1:])))) == ""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": 'a"b'}, "letters"),
        ({"name": "n" * 44}, "letters"),
        ({"start": (0.0,)}, "each with a start"),
        ({"channels": ()}, "1 to 32 channels"),
        ({"channels": ARM.channels * 9, "start": (0.0,) * 36}, "1 to 32 channels"),
        ({"watchdog_s": 0.0004}, "watchdog"),
        ({"watchdog_s": 66.0}, "watchdog"),
        ({"watchdog_s": float("nan")}, "watchdog"),
        ({"period_s": 0.2}, "period"),
        ({"channels": (replace(ARM.channels[0], max_jerk=float("inf")), *ARM.channels[1:])}, "rates"),
    ],
)
def test_what_no_device_can_run_with_is_refused(changed, said):
    made = DeviceConfig(**{**CONFIG.__dict__, **changed})
    with pytest.raises(FirmwareError, match=said):
        config_header(made)


def test_the_built_images_say_whose_they_are(tmp_path):
    if why := missing("qemu"):
        pytest.skip(why)
    build(tmp_path, "cortex-m4")
    elf, flat = (read_image(tmp_path / f"edgelink-m4.{kind}") for kind in ("elf", "bin"))
    assert (elf.schema, elf.profile, elf.linked_at, flat.linked_at) == (0x6C6EB0CA, "metaworld-sawyer", 0, None)
    assert (elf.size, elf.reset, elf.stack_pointer) == (flat.size, flat.reset, flat.stack_pointer)
    assert 0x2000_0000 < elf.stack_pointer <= 0x2000_8000
