"""Boot Debian's kernel in QEMU with this machine's own root, read-only, load vivid, and run `tests.vivid.guest` there.

    python -m tests.vivid [--kernel linux-image-*.deb] [--work out/vivid]

Needs qemu-system-x86, busybox-static, kmod and, unless --kernel is given, apt (70 MB). Half a
minute, though emulated. Exit code 0 when everything holds, 1 when something does not, 3 when the machine did not boot.
"""

from __future__ import annotations

import sys

from tests.qemu import machine

_LIMIT_S = 500


def main() -> int:
    options = machine.parser(__doc__, "out/vivid").parse_args()
    if lacking := machine.missing():
        print(lacking)
        return 3
    tree = machine.kernel(options.kernel, options.work)
    said = machine.run(tree, ["vivid"], "tests.vivid.guest", options.work, _LIMIT_S)
    print(said)
    if "VIVID" not in said:
        return 3
    return 0 if "FAIL" not in said else 1


if __name__ == "__main__":
    sys.exit(main())
