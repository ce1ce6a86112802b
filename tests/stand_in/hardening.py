"""Does a hardened unit get real-time priority, locked memory and its arm, and is the network refused to it?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.stand_in.remote import Remote
from tests.stand_in.steps import Broken, Steps

_PROBE = Path(__file__).with_name("probe.py")
_SCRIPT, UNIT = "/opt/stand-in/probe.py", "stand-in-probe.service"
# What any real-time service of an ordinary user would ask for.
PLAIN = """[Service]
User=robot
SupplementaryGroups=dialout
LimitRTPRIO=90
LimitMEMLOCK=infinity
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
DevicePolicy=closed
DeviceAllow=char-ttyUSB rw
"""
# Whatever the unit starts and waits for, the probe takes its place; how the unit is confined stays as it is.
_IN_ITS_PLACE = """[Unit]
Wants=
ConditionPathExists=
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStartPre=
ExecStart=
ExecStart=/usr/bin/python3 -I {script} {arguments}
"""


def probe(remote: Remote, text: str, arguments: str, drop_in: str = "") -> dict[str, Any]:
    """What the probe finds as the main process of that unit. Raises Broken when it does not run."""
    folder = f"/etc/systemd/system/{UNIT}.d"
    remote.put(_PROBE.read_bytes(), _SCRIPT)
    remote.put(text.encode(), f"/etc/systemd/system/{UNIT}")
    remote.put(_IN_ITS_PLACE.format(script=_SCRIPT, arguments=arguments).encode(), f"{folder}/probe.conf")
    remote.put(drop_in.encode(), f"{folder}/stand-in.conf")
    done = remote.run(f"systemctl daemon-reload && systemctl start {UNIT}", check=False)
    said = remote.run(f"journalctl -q -o cat -u {UNIT} --no-pager").out
    found = [line for line in said.splitlines() if line.startswith("{")]
    if done.code or not found:
        raise Broken(f"{UNIT} did not run: {done.said} {said[-800:]}")
    answer: dict[str, Any] = json.loads(found[-1])
    return answer


def judge(steps: Steps, found: dict[str, Any], seccomp: bool) -> None:
    """`seccomp`: the unit's filters exist (qemu-user takes none from an emulated program). Raises Broken."""
    steps.note(json.dumps(found))
    steps.check(
        "a hardened unit takes SCHED_FIFO 80", "granted", found["takes_fifo"] or "granted", not found["takes_fifo"]
    )
    limit = found["memlock"][1]
    amount = "no limit" if limit == -1 else f"at most {limit} bytes"
    locked = found["locks_4_mib"]
    steps.check("locked memory", "4 MiB stay", locked or f"4 MiB stay, {amount}", not locked)
    steps.check("its own user, no new privileges", "1", found["no_new_privileges"], found["uid"] != 0)
    steps.check("/usr cannot be written", "refused", found["writes_usr"] or "written", bool(found["writes_usr"]))
    steps.check("AF_UNIX", "granted", found["unix"] or "granted", not found["unix"])
    device = found["opens_device"]
    steps.check("the arm's bus", "opened", device or "opened", not device)
    if seccomp:
        reached = found["reaches_sshd"]
        steps.check("sshd of its own machine", "not reached", reached or "reached", bool(reached))
        steps.check("AF_INET", "refused", found["inet"] or "granted", bool(found["inet"]))
    else:
        told = "qemu-user takes no seccomp filter and no namespace; amd64 and twin show it"
        steps.say(f"  AF_INET: {found['inet'] or 'granted'} ({told})")
