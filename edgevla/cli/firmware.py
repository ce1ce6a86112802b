"""`edgevla firmware config`, `build`, `info` and `flash`: the reference firmware of `firmware_bridge/firmware`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import typer

import firmware_bridge.firmware as sources
import profiles
from edgevla.cli.output import JSON_OPTION, print_json, print_table, require_writable, say
from edgevla.errors import DeviceFault, Usage, explain
from firmware_bridge.edgelink.codec import schema_hash
from firmware_bridge.firmware.configure import DeviceConfig, config_header
from firmware_bridge.firmware.flash import CHIP, TOOLS, require_disarmed
from firmware_bridge.firmware.image import Image, read_image, require_fits
from firmware_bridge.transport.serial import SerialTransport
from profiles import ArmProfile

app = typer.Typer(
    help="Configure, build, look into or flash the reference firmware.",
    epilog="Example: edgevla firmware build metaworld-sawyer -o out/firmware",
    no_args_is_help=True,
)
BOARDS = {"host": "host", "cortex-m4": "cortex-m4", "all": "all"}
TOOL_S = 180.0  # s: a flash of 1 MB over the slowest of them
_PERIOD = typer.Option(0.0125, "--period-s", help="Ts: period of the device's limiter, the host's servo period")
_ADDRESS = typer.Option("0x08000000", "--address", help="Where the board's flash begins (STM32: 0x08000000)")
_FLASH_PROFILE = typer.Option(..., "--profile", help="Arm profile that the host will use")


@app.command()
def config(
    profile: str = typer.Argument(..., help="Name of an arm, or a path to its .toml file"),
    output: Path = typer.Option(..., "-o", "--output", help="config.h to write"),
    period_s: float = _PERIOD,
    replace: bool = typer.Option(False, "--replace", help="Write over another file that is there"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write config.h, the channels and limits that are compiled in, from an arm profile.

    Example: edgevla firmware config metaworld-sawyer -o config.h
    """
    arm = _arm(profile)
    require_writable(output)
    text = config_header(device_config(arm, period_s))
    if output.exists() and not replace and output.read_bytes() != text.encode():
        todo = "name another with -o, or pass --replace"
        raise Usage(explain("nothing is written over unasked", "a file that is not there", str(output), todo))
    _write(output, text)
    facts = {"config": str(output), "profile": arm.name, "schema": f"{schema_hash(arm.channels):#010x}"}
    if as_json:
        print_json(facts)
    else:
        say(f"{output}: {arm.name}, {len(arm.channels)} channels, schema {facts['schema']}")


@app.command()
def build(
    profile: str = typer.Argument(..., help="Name of an arm, or a path to its .toml file"),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for everything that is made"),
    board: str = typer.Option("all", "--board", help="host, cortex-m4 or all"),
    period_s: float = _PERIOD,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write config.h and compile: edgelink-host (a pty), edgelink-m4.elf and .bin (emulated board). Needs make and gcc.

    Example: edgevla firmware build metaworld-sawyer -o out/firmware --board host
    """
    if board not in BOARDS:
        raise Usage(explain("unknown --board", ", ".join(BOARDS), board, "see `edgevla firmware build --help`"))
    arm = _arm(profile)
    output.mkdir(parents=True, exist_ok=True)
    _write(output / "config.h", config_header(device_config(arm, period_s)))
    _make(output.absolute(), BOARDS[board])
    names = ("edgelink-host", "libedgelink-device.so", "edgelink-m4.elf", "edgelink-m4.bin")
    made = [str(output / name) for name in names if (output / name).exists()]
    if as_json:
        print_json({"profile": arm.name, "schema": f"{schema_hash(arm.channels):#010x}", "files": made})
    else:
        say("\n".join(made))


@app.command()
def info(
    image: Path = typer.Argument(..., help="A .bin or an .elf of this firmware"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what an image is: profile, schema, watchdog, period, vector table, hash.

    Example: edgevla firmware info out/firmware/edgelink-m4.elf
    """
    rows = _facts(read_image(image))
    if as_json:
        print_json(rows)
    else:
        print_table(f"firmware {image}", ["what", "value"], list(rows.items()))


@app.command()
def flash(
    image: Path = typer.Argument(..., help="The .bin (or, for openocd, .elf) to flash"),
    profile: str = _FLASH_PROFILE,
    port: str = typer.Option("", "--port", help="Serial port of the arm's controller: it must be there and disarmed"),
    blank: bool = typer.Option(False, "--blank", help="The board has none of this firmware yet: do not ask it"),
    tool: str = typer.Option("dfu-util", "--tool", help="dfu-util or openocd"),
    address: str = _ADDRESS,
    chip: str = typer.Option("stm32f4x", "--chip", help="openocd's target script"),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check everything, print the command, run nothing"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Flash a board, after: the image is sound and of the host's schema, the tool is there, the arm is disarmed.

    Example: edgevla firmware flash my-board.bin --profile metaworld-sawyer --port /dev/ttyACM0 --dry-run
    """
    if tool not in TOOLS:
        raise Usage(explain("unknown --tool", " or ".join(TOOLS), tool, "see `edgevla firmware flash --help`"))
    if bool(port) == blank:
        raise Usage(
            explain("one of --port and --blank", "which board", f"{port!r}, --blank {blank}", "pass one of them")
        )
    arm, at = _arm(profile), _number(address)
    if not CHIP.fullmatch(chip):
        todo = "see the folder target/ of openocd, e.g. stm32f4x"
        raise Usage(explain("--chip", "the name of a target script: letters, digits, points, dashes", chip, todo))
    found = read_image(image)
    require_fits(found, at, schema_hash(arm.channels))
    if tool == "dfu-util" and found.linked_at is not None:
        raise Usage(explain("dfu-util takes no .elf", "a .bin", str(image), "pass the .bin, or --tool openocd"))
    command = TOOLS[tool](image, at, chip)
    if port:
        require_disarmed(SerialTransport(port, arm.baud))
    path = shutil.which(tool)
    if path is None and not dry_run:
        raise DeviceFault(explain(f"{tool} is not installed", f"{tool} on PATH", "nothing", f"apt install {tool}"))
    if not as_json:
        say(shlex.join(command))
    if not dry_run:
        _run_tool(command, quiet=as_json)
    if as_json:
        print_json({"command": command, "tool_found": path is not None, "flashed": not dry_run, **_facts(found)})
    else:
        missing = f" ({tool} is not installed here)" if path is None else ""
        say(f"dry run: nothing was flashed{missing}" if dry_run else f"flashed {found.profile} {found.sha256[:12]}")


def device_config(arm: ArmProfile, period_s: float) -> DeviceConfig:
    """What a device of `arm` is built with; emulated motors start in the middle of the arm's start range."""
    if arm.protocol != "edgelink":
        todo = "choose an arm whose controller is a microcontroller of your own"
        raise Usage(explain(f"{arm.name} has no edgelink firmware", "protocol edgelink", arm.protocol, todo))
    if arm.watchdog_s is None:
        todo = "set watchdog_s in the arm profile"
        raise Usage(explain(f"{arm.name} has no watchdog to compile in", "watchdog_s", "none", todo))
    start = tuple((low + high) / 2 for low, high in zip(arm.start_low, arm.start_high, strict=True))
    return DeviceConfig(arm.name, arm.channels, arm.watchdog_s, period_s, start)


def _arm(name: str) -> ArmProfile:
    found = profiles.load_file(name) if name.endswith(".toml") or "/" in name else profiles.load_arm(name)
    if not isinstance(found, ArmProfile):
        raise Usage(explain(f"{name} is no arm", "an arm profile", "a target profile", "see `edgevla profiles list`"))
    return found


def _number(text: str) -> int:
    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not 0 <= address <= 0xFFFF_FFFF:
        raise Usage(explain("--address", "a number of 32 bits, for example 0x08000000", text, "correct it"))
    return address


def _facts(image: Image) -> dict[str, object]:
    facts = asdict(image)
    for name in ("stack_pointer", "reset", "linked_at", "schema"):
        facts[name] = None if facts[name] is None else f"{facts[name]:#010x}"
    return facts


def _write(path: Path, text: str) -> None:
    """Whole or not at all; not touched when it is the same, so that make builds nothing again."""
    require_writable(path)
    if path.exists() and path.read_bytes() == text.encode():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk does not name the file


def _make(folder: Path, target: str) -> None:
    source = Path(next(iter(sources.__path__)))
    command = ["make", "-s", "-C", str(source), f"OUT={folder}", f"CONFIG={folder}", target]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_S)
    except FileNotFoundError:
        raise DeviceFault(explain("no make here", "make and a C compiler", "nothing", "apt install make gcc")) from None
    if done.returncode:
        words = done.stderr.strip().splitlines()[-1:] or ["no words"]
        todo = "apt install gcc gcc-arm-none-eabi libnewlib-arm-none-eabi, then again"
        raise DeviceFault(explain(f"the firmware does not build for {target}", "exit code 0", words[0], todo))


def _run_tool(command: list[str], quiet: bool) -> None:
    """Its output is the user's to see, unless JSON was asked for."""
    try:
        done = subprocess.run(command, capture_output=quiet, timeout=TOOL_S, check=False)
        got = f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        done, got = None, f"no end after {TOOL_S:g} s"
    if done is None or done.returncode:
        todo = "read its output above; the board may hold no firmware now: put it in its boot loader and flash again"
        raise DeviceFault(explain(f"{command[0]} did not flash the board", "exit code 0", got, todo))
