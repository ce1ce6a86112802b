"""The C library's own tests under sanitizers, a short fuzz of the whole device, and its warnings on other compilers."""

import shutil
import subprocess

import pytest

from tests.firmware_bridge.firmware import fuzz, native
from tests.firmware_bridge.firmware.native import HERE, LIBRARY, compile_c

SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FUZZ_RUNS = 20_000  # make fuzz-firmware: ten minutes


@pytest.mark.parametrize("name", ["gcc", "clang-14"])
def test_the_units_hold_under_sanitizers(tmp_path, name):
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    built = compile_c(tmp_path, "unit", [*LIBRARY, HERE / "unit.c"], *SANITIZED, cc=name)
    done = subprocess.run([built], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" 0 failed\n")
    assert int(done.stdout.split()[0]) > 1_000


def test_the_unit_tests_can_fail(tmp_path):
    if native.compiler() is None:
        pytest.skip(native.NO_COMPILER)
    source = (LIBRARY[0]).read_text().replace("#define CRC_POLY 0x1021u", "#define CRC_POLY 0x1023u")
    (tmp_path / "edgelink.c").write_text(source)
    built = compile_c(tmp_path, "unit", [tmp_path / "edgelink.c", *LIBRARY[1:], HERE / "unit.c"])
    assert subprocess.run([built], capture_output=True, timeout=60).returncode == 1


def test_no_line_crashes_hangs_or_moves_the_device_past_its_limits(tmp_path):
    if shutil.which(fuzz.CLANG) is None:
        pytest.skip(fuzz.NO_CLANG)
    built = fuzz.build(tmp_path)
    fuzz.seed(tmp_path / "corpus")
    options = [f"-runs={FUZZ_RUNS}", "-seed=1", "-timeout=5", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run([built, *options, tmp_path / "corpus"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {FUZZ_RUNS} runs" in done.stderr


def test_the_fuzz_target_sees_a_device_that_moves_too_fast(tmp_path):
    """Without the limiter's bound on speed the first conversations end in an abort."""
    if shutil.which(fuzz.CLANG) is None:
        pytest.skip(fuzz.NO_CLANG)
    source = LIBRARY[1].read_text().replace("axis.velocity = greater(", "axis.velocity = 3.0 * greater(")
    (tmp_path / "limiter.c").write_text(source)
    flags = ("-g", "-O1", "-fsanitize=fuzzer", f"-I{native.ROOT / 'src'}")
    sources = [LIBRARY[0], tmp_path / "limiter.c", LIBRARY[2], HERE / "fuzz.c"]
    built = compile_c(tmp_path, "fuzz", sources, *flags, cc=fuzz.CLANG)
    fuzz.seed(tmp_path / "corpus")
    command = [built, *sorted((tmp_path / "corpus").iterdir()), f"-artifact_prefix={tmp_path}/"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0
