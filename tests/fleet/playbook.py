"""examples/fleet/rollout.yml, called as a person calls it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLEET = ROOT / "examples" / "fleet"
REQUIREMENT = "ansible-core>=2.16,<3"
_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=\d+\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Rolled:
    """What one call of ansible-playbook did."""

    exit_code: int
    seconds: float
    output: str

    @property
    def batches(self) -> int:
        """Batches that were begun."""
        return len(re.findall(r"^PLAY \[", self.output, re.MULTILINE))

    @property
    def outcomes(self) -> dict[str, str]:
        """Robot -> 'changed', 'unchanged' or 'failed', of those that Ansible came to."""
        rows = _RECAP.findall(self.output)
        return {name: "failed" if int(failed) else "changed" if int(new) else "unchanged" for name, new, failed in rows}


def provide() -> str:
    """Install ansible-core beside this Python; why that cannot be had, '' where it is there."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 or _PLAYBOOK.exists():
        return ""
    return f"{REQUIREMENT} cannot be installed: {(done.stderr.strip().splitlines() or ['pip says nothing'])[-1]}"


def version() -> str:
    return metadata.version("ansible-core")


def roll(folder: Path, inventory: Path, *options: str, **values: object) -> Rolled:
    """Run the playbook from the working folder `folder`; `values` are passed with -e."""
    command = [str(_PLAYBOOK), "-i", str(inventory), str(FLEET / "rollout.yml"), "-e", json.dumps(values), *options]
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False)
    return Rolled(done.returncode, round(time.monotonic() - start, 1), done.stdout + done.stderr)


def _environment(folder: Path) -> dict[str, str]:
    """`edgevla` of this tree, and nothing of this user's Ansible or deploy.toml."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    own = {"ANSIBLE_CONFIG": str(FLEET / "ansible.cfg"), "ANSIBLE_HOME": str(folder / "ansible")}
    own |= {"ANSIBLE_REMOTE_TEMP": str(folder / "ansible" / "remote"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "160"}
    python = {"PYTHONPATH": str(ROOT), "PATH": path, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    return {**kept, **own, **python, "XDG_CONFIG_HOME": str(folder / "config")}
