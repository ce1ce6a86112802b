"""CAN for real: Debian's kernel in QEMU with vcan and slcan, and every CAN test of ours in there.

    python -m tests.qemu_can [--kernel linux-image-*.deb] [--work out/can] [--out bench/results/can.json] [TEST ...]

Needs qemu-system-x86, busybox-static, kmod, iproute2 and, unless both packages are in the work folder already, apt
(70 MB: the kernel, and can-utils for slcand). Minutes, for it is emulated. Exit code 0 when every test passes, 1 when
one does not, 3 when the machine did not boot or ran nothing.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.files import write_json
from tests.qemu import machine
from tests.qemu_can.guest import MARK

_LIMIT_S = 1800
_MODULES = ("vcan", "can_raw", "can_isotp", "slcan")


def main() -> int:
    parser = machine.parser(__doc__, "out/can")
    parser.add_argument("--out", type=Path, help="write the summary there (bench/results/can.json)")
    parser.add_argument("tests", nargs="*", help="pytest node ids; all CAN tests without")
    options = parser.parse_args()
    if lacking := machine.missing():
        print(lacking)
        return 3
    tree = machine.kernel(options.kernel, options.work)
    slcand = machine.unpacked("can-utils", options.work).resolve() / "usr/bin/slcand"
    environment = {
        "EDGEVLA_CAN": "vcan0",
        "EDGEVLA_CAN_SECOND": "vcan1",
        "SLCAND": str(slcand),
        "EDGEVLA_CAN_TESTS": f"'{' '.join(options.tests)}'",
    }
    started_s = time.monotonic()
    said = machine.run(tree, _MODULES, "tests.qemu_can.guest", options.work, _LIMIT_S, environment, counted=True)
    print(said)
    result = result_of(said)
    if result is None:
        print("the machine did not come to an end of its tests", file=sys.stderr)
        return 3
    result["whole_s"] = round(time.monotonic() - started_s, 1)
    if options.out is not None:
        write_json(options.out, result)
    count = sum(result["passed"].values())
    print(f"{count} passed, {len(result['failed'])} failed, {len(result['skipped'])} skipped, {result['whole_s']} s")
    return 3 if not count else int(bool(result["failed"]) or result["pytest_exit_code"] != 0)


def result_of(said: str) -> dict[str, Any] | None:
    """The guest's last word, None when it never came to it."""
    lines = [line for line in said.splitlines() if line.startswith(MARK)]
    if not lines:
        return None
    result: dict[str, Any] = json.loads(lines[-1][len(MARK) :])
    return result


if __name__ == "__main__":
    sys.exit(main())
