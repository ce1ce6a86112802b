"""One `edgevla deploy` as the robot sees it, without SSH: settings, offer, chunks, assembly, install.

    python -m tests.powercut.client PREFIX BUNDLE INDEX ROBOT_TOML TICKS

Exit code: that of the outcome. Standard library and the frames alone, so that strace has little to follow.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from edgevla.deploy.index import parse_index
from edgevla.install.frames import read_frame, write_frame
from edgevla.install.layout import Layout
from edgevla.trust.envelope import parse_envelope
from edgevla.trust.folder import read_head

_BATCH = 64  # chunks in one request


class Refused(Exception):
    """The robot's answer was an error."""


class Client:
    """Requests to an installer that was started for it."""

    def __init__(self, layout: Layout) -> None:
        command = [str(layout.launcher), "--prefix", str(layout.prefix), "rpc"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._to, self._from = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
        self._numbers = itertools.count(1)

    def ask(self, do: str, payload: bytes = b"", **fields: Any) -> Mapping[str, Any]:
        """Raises Refused; EOFError when the installer has left."""
        write_frame(self._to, {"id": next(self._numbers), "do": do, **fields}, payload)
        while (frame := read_frame(self._from)) is not None:
            if frame.header.get("ok"):
                return dict(frame.header["result"])
            if "error" in frame.header:
                raise Refused(frame.header["error"]["text"])
        raise EOFError(do)

    def leave(self) -> None:
        """Returns when the installer has left too."""
        self._to.close()
        self.process.wait()

    def send(self, bundle: Path, index: bytes) -> None:
        """Every chunk that the robot misses, then every file verified there."""
        head = read_head(bundle)
        sizes = {"manifest_bytes": len(head.manifest), "signature_bytes": len(head.signature or b"")}
        offer = head.manifest + (head.signature or b"") + index
        answer = self.ask("offer", offer, index_bytes=len(index), **sizes)
        if answer["state"] == "installed":
            return
        content = _chunks(bundle, index)
        missing = answer["missing"]
        for start in range(0, len(missing), _BATCH):
            batch = [content[name] for name in missing[start : start + _BATCH]]
            self.ask("chunks", b"".join(batch), lengths=[len(one) for one in batch])
        self.ask("assemble", release=parse_envelope(head.manifest).id)


def _chunks(bundle: Path, index: bytes) -> dict[str, bytes]:
    found = {}
    for path, chunks in parse_index(index).files.items():
        raw, offset = (bundle / path).read_bytes(), 0
        for chunk in chunks:
            found[chunk.hash] = raw[offset : offset + chunk.length]
            offset += chunk.length
    return found


def main(arguments: list[str]) -> int:
    prefix, bundle, index, settings, ticks = arguments
    client = Client(Layout(Path(prefix)))
    try:
        client.ask("hello")
        client.ask("configure", robot_toml=Path(settings).read_text())
        client.send(Path(bundle), Path(index).read_bytes())
        release = parse_envelope(read_head(Path(bundle)).manifest).id
        options = {"health_ticks": int(ticks), "accept_unknown_torque": True}
        return int(client.ask("install", release=release, options=options)["exit_code"])
    except (Refused, EOFError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 5
    finally:
        client.leave()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
