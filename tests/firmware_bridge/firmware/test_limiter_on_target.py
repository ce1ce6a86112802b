"""The limiter's bits on a Cortex-M4, which computes double by software: run in QEMU, judged there."""

import subprocess

import numpy as np
import pytest

from tests.firmware_bridge.firmware import native
from tests.firmware_bridge.firmware.boards import missing
from tests.firmware_bridge.firmware.limiter_cases import cases, in_python, python_axes, ranges

COUNT = 400  # 61 kB of cases in the image
BOARD = native.ROOT / "boards" / "mps2_an386"
CORTEX = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-ffunction-sections"]
LINK = ["-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs", "-T", BOARD / "board.ld", "-Wl,--gc-sections"]
MACHINE = ["-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "null"]


def table():
    """(n, 19): limits, step, case, slow, and what Python makes of it."""
    rng = np.random.default_rng(7)
    rows, steps = ranges(rng, COUNT)
    given, axes = cases(rng, rows, steps), python_axes(rows, steps)
    slow = (np.arange(COUNT) % 3 == 0).astype(np.float64)
    said = np.where(slow[:, None] > 0, in_python(axes, given, True), in_python(axes, given, False))
    return np.concatenate([rows, steps[:, None], given, slow[:, None], said], axis=1)


def run(folder, values):
    """(exit code, what it said) of the program with these cases in QEMU."""
    lines = ",\n".join("{" + ", ".join(x.hex() for x in row) + "}" for row in values.tolist())
    text = f"#define CASES {len(values)}u\nstatic const double CASE[CASES][19] = {{\n{lines}\n}};\n"
    (folder / "cases.h").write_text(text)
    sources = [native.HERE / "on_target.c", native.ROOT / "src" / "limiter.c", BOARD / "startup.c"]
    flags = ["-std=gnu11", "-O2", "-ffp-contract=off", f"-I{native.ROOT / 'src'}", f"-I{folder}"]
    command = ["arm-none-eabi-gcc", *CORTEX, *flags, *LINK, *sources, "-lm", "-o", folder / "cases.elf"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    command = [
        "qemu-system-arm",
        *MACHINE,
        "-semihosting-config",
        "enable=on,target=native",
        "-kernel",
        folder / "cases.elf",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.fixture
def folder(tmp_path):
    if why := missing("qemu"):
        pytest.skip(why)
    return tmp_path


def test_software_double_gives_the_bits_of_python(folder):
    assert run(folder, table()) == (0, "0")


def test_a_single_bit_would_be_found(folder):
    values = table()
    values[41, 16] = np.nextafter(values[41, 16], np.inf)
    assert run(folder, values) == (1, "42")
