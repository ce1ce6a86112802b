"""A TCP relay on loopback that cuts its connection after so many bytes: a robot that goes out of reach."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator


class Relay:
    """Forwards connections to `port`; each is cut when `cut_after_bytes` have gone to the robot. None: never."""

    def __init__(self, port: int) -> None:
        self.cut_after_bytes: int | None = None
        self.cuts = 0
        self.passed_bytes = 0  # both ways
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Until `close`; one connection at a time is enough."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(("127.0.0.1", self._to)) as robot:
                    self._forward(client, robot)

    def close(self) -> None:
        """No more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _forward(self, client: socket.socket, robot: socket.socket) -> None:
        passed = 0
        with selectors.DefaultSelector() as ready:
            for one, other in ((client, robot), (robot, client)):
                ready.register(one, selectors.EVENT_READ, other)
            while True:
                for key, _ in ready.select():
                    source = client if key.data is robot else robot
                    try:
                        raw = source.recv(16_384)
                        key.data.sendall(raw)
                    except OSError:
                        return
                    passed += len(raw) if source is client else 0
                    self.passed_bytes += len(raw)
                    if not raw:
                        return
                    if self.cut_after_bytes is not None and passed >= self.cut_after_bytes:
                        self.cuts += 1
                        _drained(robot)
                        return


def _drained(robot: socket.socket, quiet_s: float = 0.5) -> None:
    """What arrived is worked on, as over a radio link that fades; closing at once would throw away what waits there."""
    robot.settimeout(quiet_s)
    with contextlib.suppress(OSError):
        while robot.recv(16_384):
            pass


@contextlib.contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    """A relay that serves in a thread."""
    relay = Relay(port)
    thread = threading.Thread(target=relay.serve, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join(5)
