"""What runs on the robot in a release of the tests, in place of `edgevla`: see tests/acting_release.py.

behaviour.json of the bundle: `cameras` is what `camera check --confirmed` finds lacking, `golden` and `selftest` say
why they are broken (`selftest_exit`: its exit code), `golden_waits_for` a file, `start` "fails" or "hangs", `late` how
many of ten steps wake late. `only`: a robot with another word in the path of its bundle does nothing of it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    """The four commands that the installer and the service call."""
    words = sys.argv[1:]
    if words[:2] == ["bundle", "verify"]:
        return _verify(_behaviour(words[2]))
    bundle = _behaviour(words[words.index("--bundle") + 1])
    if words[:2] == ["camera", "check"]:
        return _cameras(bundle)
    if words[0] == "selftest" and "--torque-only" in words:
        print(json.dumps({"torque": "off", "why": "a virtual arm"}))
        return 0
    if words[0] == "selftest":
        return _selftest(bundle)
    return _run(bundle, words)


def _behaviour(bundle: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(bundle) / "behaviour.json").read_text())
    return found if found.get("only", "") in bundle else {}


def _verify(behaviour: dict[str, Any]) -> int:
    while (place := behaviour.get("golden_waits_for")) and not Path(place).exists():
        time.sleep(0.02)
    broken = behaviour.get("golden", "")
    verdict = {"name": "stage head", "expected": "1e-4", "got": broken, "kept": not broken}
    print(json.dumps({"kept": not broken, "verdicts": [verdict]}))
    return int(bool(broken))


def _cameras(behaviour: dict[str, Any]) -> int:
    lack = behaviour.get("cameras")
    print(json.dumps({"kept": not lack, "lack": lack}))
    return int(bool(lack))


def _selftest(behaviour: dict[str, Any]) -> int:
    broken = behaviour.get("selftest", "")
    claim = {"name": "servo p99.9", "text": broken or "kept", "kept": not broken}
    print(json.dumps({"kept": not broken, "claims": [claim]}))
    return int(behaviour.get("selftest_exit", 1)) if broken else 0


def _run(behaviour: dict[str, Any], words: list[str]) -> int:
    """Disarmed, listening, until it is told to end. A thousand steps a second."""
    from edgevla.operate.say import SayServer

    assert "--disarmed" in words
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if behaviour.get("start") == "fails":
        print("error: the port /dev/ttyTINY is dead")
        return 5
    began = time.monotonic()

    def status() -> dict[str, Any]:
        steps = int((time.monotonic() - began) * 1000)
        late = steps * int(behaviour.get("late", 0)) // 10
        return {"phase": "disarmed", "torque": "off", "tally": {"steps": steps, "late_wakes": late}}

    place = Path(words[words.index("--socket") + 1])
    with SayServer(place, lambda text: None, status, 10) as server, selectors.DefaultSelector() as waiting:
        waiting.register(server.fd, selectors.EVENT_READ)
        if behaviour.get("start") != "hangs":
            _ready()
        while True:
            waiting.select(0.2)
            server.poll(time.monotonic_ns())


def _ready() -> None:
    address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", address)


if __name__ == "__main__":
    sys.exit(main())
