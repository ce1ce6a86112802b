"""`edgevla-agent`: the installer of a robot, as one command.

    edgevla-agent --prefix P rpc                              serve one `edgevla deploy` on stdin and stdout
    edgevla-agent --prefix P install-archive NAME.tar.zst     install without a network; also an unpacked bundle
    edgevla-agent --prefix P status | releases | rollback | gc | logs

Exit codes as everywhere in edgevla: 0 done, 1 refused, 2 usage, 4 bad input, 5 device.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # by path with -I, nothing of ours is on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgevla import __version__
from edgevla.install.by_hand import done_apart, install_archive, print_event
from edgevla.install.deploy_log import lines_of
from edgevla.install.frames import error_of
from edgevla.install.job import Job, run_job
from edgevla.install.layout import DEFAULT_PREFIX, Layout
from edgevla.install.lock import InstallLock
from edgevla.install.releases import collect, list_releases
from edgevla.install.rpc import Session, status
from edgevla.install.tools import tools_of
from edgevla.install.work import begin_work


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    asked = _parser().parse_args(arguments)
    os.umask(0o022)  # releases are read by the service's user
    try:
        return _act(asked, Layout(Path(os.path.abspath(asked.prefix))))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except Exception as error:
        told = error_of(error)
        print(f"error: {told['text']}", file=sys.stderr)
        return int(told["exit_code"])


def _act(asked: argparse.Namespace, layout: Layout) -> int:
    do = asked.do
    if do == "rpc":
        return _serve(layout)
    if do == "job":
        lock = InstallLock.inherited(asked.lock_fd)
        data = json.loads(asked.job)
        outcome = run_job(layout, Job.of(data["do"], data), asked.deploy)
        lock.close()
        return outcome.exit_code
    if do in ("install-archive", "rollback"):
        return _changed(asked, layout)
    result: Mapping[str, Any]
    if do == "status":
        result = status(layout, False)
    elif do == "releases":
        result = {"releases": list_releases(layout)}
    elif do == "gc":
        with contextlib.closing(begin_work(layout)):
            result = {"removed": collect(layout, asked.keep)}
    else:
        result = {"service": tools_of(layout).manager.logs(asked.lines), "deploy": lines_of(layout.log)[-asked.lines :]}
    print(json.dumps(result, indent=1))
    return 0


def _changed(asked: argparse.Namespace, layout: Layout) -> int:
    """An install or a rollback in the foreground, its steps on stderr, its outcome on stdout."""
    options = {"keep": asked.keep, "health_ticks": asked.health_ticks, "accept_unknown_torque": asked.yes}
    with contextlib.closing(begin_work(layout)) as lock:
        try:
            if asked.do == "install-archive":
                outcome = install_archive(layout, asked.source, options, lock, print_event)
            else:
                outcome = done_apart(
                    layout, Job.of("rollback", {"id": asked.id, "options": options}), lock, print_event
                )
        except KeyboardInterrupt:
            print("stopped looking; if an install has begun it goes on: edgevla-agent status", file=sys.stderr)
            return 130
    print(json.dumps(outcome))
    if not outcome["good"]:
        print(f"error: {outcome['why']}", file=sys.stderr)
    return int(outcome["exit_code"])


def _serve(layout: Layout) -> int:
    """Frames own stdout: whatever else prints goes to stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    session = Session(layout, sys.stdin.buffer, out)
    try:
        session.serve()
    finally:
        session.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgevla-agent",
        description="The installer of a robot. Results are JSON on stdout, steps and errors are lines on stderr.",
        epilog="Example: edgevla-agent --prefix /opt/edgevla install-archive student.tar.zst",
    )
    parser.add_argument("--version", action="version", version=f"edgevla-agent {__version__}")
    parser.add_argument("--prefix", default=str(DEFAULT_PREFIX), help="where everything lies (default: %(default)s)")
    commands = parser.add_subparsers(dest="do", required=True, metavar="COMMAND")
    commands.add_parser("rpc", help="serve one `edgevla deploy` on stdin and stdout")
    commands.add_parser("status", help="what runs, and how the newest deploy went")
    commands.add_parser("releases", help="what is installed")
    archive = commands.add_parser("install-archive", help="install a signed bundle without a network")
    archive.add_argument("source", type=Path, metavar="NAME.tar.zst", help="or the folder NAME.bundle")
    back = commands.add_parser("rollback", help="back to an installed good release")
    back.add_argument("id", nargs="?", help="default: the one before")
    for command in (archive, back):
        command.add_argument("--health-ticks", type=int, default=800, help="disarmed ticks that must be kept")
        command.add_argument("--keep", type=int, default=3, help="good releases that stay")
        command.add_argument("--yes", action="store_true", help="also while nobody can say whether torque is off")
    commands.add_parser("gc", help="remove releases that nobody needs").add_argument("--keep", type=int, default=3)
    commands.add_parser("logs", help="newest lines of the service").add_argument("--lines", type=int, default=50)
    job = commands.add_parser("job")  # of `rpc` and `install-archive`, in a session of its own
    job.add_argument("job")
    job.add_argument("--lock-fd", type=int, required=True)
    job.add_argument("--deploy", required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
