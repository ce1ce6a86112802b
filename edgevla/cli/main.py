"""`edgevla`: finds the command that was called, loads that one only, and turns errors into one clear block.

Commands are entry points of the group `edgevla.commands`: this package imports neither `export` nor `bench`.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from edgevla import __version__
from edgevla.cli.entry import INTERRUPTED, imported
from edgevla.cli.output import print_error
from edgevla.cli.stopping import Stdout, silence_stdout, stdout_error, stdout_full
from edgevla.errors import BadInput, Usage, explain

GROUP = "edgevla.commands"
INTERNAL_ERROR = 70  # a defect of ours (sysexits EX_SOFTWARE): outside the table, as it should never be seen

# One line each, so that `edgevla --help` loads no command. In the order of use.
SUMMARIES = {
    "compress": "Distil and quantize a teacher into a bundle (workstation, needs the extra `export`).",
    "bundle": "Show, verify, compare, sign or pack a bundle.",
    "doctor": "Examine this computer as a robot's: kernel, cores, heat, supply, ports; the line to type for each.",
    "check": "Prove and measure a bundle's timing claims on a target with an arm; refuse what cannot hold.",
    "selftest": "Try servo, bus, cameras, recorder and policy at the operating rate, torque off.",
    "run": "Drive an arm with a bundle in closed loop.",
    "say": "Give a run that is going another instruction, or ask how it is (cannot arm).",
    "camera": "List cameras; compare each with the bundle's training picture.",
    "flight": "Explain why a recorded run stopped; show its last seconds.",
    "replay": "Run a flight record again; name the first difference.",
    "harvest": "Turn flight records into a LeRobot dataset (needs the extra `data`).",
    "eval": "Evaluate a bundle on recorded episodes, or two of them blinded on the real arm.",
    "arm": "Show, calibrate or move a real arm, without a policy.",
    "bus": "Scan, monitor, decode, record, replay or measure a serial line or CAN bus.",
    "sim-arm": "Start the virtual arm of any profile (metaworld-sawyer needs the extra `sim`).",
    "firmware": "Configure, build, look into or flash the reference firmware.",
    "deploy": "Install a signed release on a robot over SSH; status, rollback, logs (needs the extra `deploy`).",
    "profiles": "List, show or validate target and arm profiles.",
    "bench": "Measure and report (needs the extra `bench`).",
    "profile": "Show where time and memory of a bundle go; a trace for Perfetto (needs the extra `export`).",
}

# Library that is missing -> the extra that brings it.
EXTRA_OF = {
    **dict.fromkeys(
        (
            "torch",
            "transformers",
            "optimum",
            "onnx",
            "onnxscript",
            "bitsandbytes",
            "accelerate",
            "safetensors",
        ),
        "export",
    ),
    **dict.fromkeys(("pyarrow", "av"), "data"),
    **dict.fromkeys(("openvino", "nncf"), "compare"),
    "ray": "ray",
    "tensorboardX": "export",
    **dict.fromkeys(("metaworld", "mujoco", "gymnasium", "OpenGL", "PIL"), "sim"),
    "cv2": "camera",
    **dict.fromkeys(("can", "canopen"), "can"),
    **dict.fromkeys(("asyncssh", "packaging"), "deploy"),
    **dict.fromkeys(("pytest", "pytest_benchmark"), "bench"),
}

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TODO = {
    **dict.fromkeys(_FULL, "free space on that disk, or write to another one"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions, or choose another path"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "check the path"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (`ulimit -n`)"),
}


def main() -> None:
    """Entry point of the `edgevla` command."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    sys.exit(run_command([argument for argument in arguments if argument != "--debug"], debug))


def run_command(arguments: list[str], debug: bool = False) -> int:
    """Run one command line; returns its exit code. With `debug`, the traceback of an error stands in front of it.

    A reader of stdout that has left (`| head`) has had enough: 0, without a word.
    """
    stdout = Stdout()
    streams = sys.stdout, sys.stderr  # the library below replaces them when one of them breaks
    code = _run(arguments, debug, stdout)
    sys.stdout, sys.stderr = streams
    if (error := stdout_error()) is not None:
        silence_stdout()
        if code == 0 and not isinstance(error, BrokenPipeError):
            return _told(error)
    return code


def _run(arguments: list[str], debug: bool, stdout: Stdout) -> int:
    try:
        app = build_app(arguments)
        imported()
        app(args=arguments or ["--help"], prog_name="edgevla")
    except SystemExit as stop:
        code = _code(stop.code)
        if code == INTERRUPTED:  # the library below turns Ctrl-C into an exit without a word
            print_error("stopped by Ctrl-C")
        elif isinstance(broken := stop.__context__, BrokenPipeError):  # and this into 1
            return 0 if stdout.reader_left() else _told(broken)
        return code
    except KeyboardInterrupt:
        print_error("stopped by Ctrl-C")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        full = isinstance(error, OSError) and error.filename is None and error.errno in _FULL
        return _told((full and stdout_full()) or error)
    return 0


def _told(error: Exception) -> int:
    text, code = describe(error)
    print_error(text)
    return code


def describe(error: Exception) -> tuple[str, int]:
    """What to print about an error, and the exit code."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return str(error), code
    if isinstance(error, ModuleNotFoundError) and (extra := _extra(error)):
        return _missing(error, extra), Usage.exit_code
    if isinstance(error, OSError):
        return _of_the_system(error), BadInput.exit_code
    text = explain(
        "a defect in edgevla",
        "a result, or an error with a reason",
        f"{type(error).__name__}: {error}",
        "call the same with --debug and report the traceback",
    )
    return text, INTERNAL_ERROR


def _of_the_system(error: OSError) -> str:
    """A file or device that the operating system refused; `error` names it, or only says why."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return explain(
        f"cannot use {' and '.join(names)}" if names else "an operation on a file or device failed",
        "one that the operating system permits",
        error.strerror or f"{type(error).__name__}: {error}",
        _TODO.get(error.errno or 0, "check the path and its device; --debug shows where it happened"),
    )


def build_app(arguments: list[str]) -> typer.Typer:
    """The application with every command named and only the called one loaded."""
    app = typer.Typer(
        name="edgevla",
        help="A trained vision-language-action model as a robot controller that holds its deadlines.",
        epilog="Example: edgevla check out/student.bundle\n\n"
        "Exit: 0 done, 1 broken or refused, 2 usage, 3 not soundly measured, 4 bad input, 5 device",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    for entry in _entries():
        if entry.name == called:
            _add(app, entry.name, entry.load())
        else:
            app.command(entry.name, help=SUMMARIES.get(entry.name, f"from {entry.value}"))(_stub)
    return app


def _add(app: typer.Typer, name: str, command: Callable[..., Any] | typer.Typer) -> None:
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _entries() -> list[EntryPoint]:
    order = list(SUMMARIES)
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    return sorted(found.values(), key=lambda e: (order.index(e.name) if e.name in order else 99, e.name))


def _stub() -> None:
    """Never called: the called command is always loaded."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgevla {__version__}")
        raise typer.Exit


def _global_options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print it."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error. Allowed anywhere."),
) -> None:
    del version, debug  # the first acts by its callback, the second was taken out in main()


def _extra(error: ModuleNotFoundError) -> str | None:
    return EXTRA_OF.get((error.name or "").split(".")[0])


def _missing(error: ModuleNotFoundError, extra: str) -> str:
    return explain(
        f"this command needs a library that is not installed: {error.name}",
        f"the extra `{extra}`",
        "an environment without it",
        f"pip install 'edgevla[{extra}]'",
    )


def _code(code: object) -> int:
    return code if isinstance(code, int) else 0 if code is None else 1


if __name__ == "__main__":
    main()
