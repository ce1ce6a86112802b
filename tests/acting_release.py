"""Signed releases of some hundred kilobytes that a real installer installs within a second or two.

Their wheel of edgevla has the real installer, trust, doctor and profiles, and in place of the commands that need a
policy (`bundle verify`, `camera check`, `selftest`, `run`) a small program that does what `behaviour.json` of its
bundle says.
cryptography and zstandard are those of the environment that runs the tests.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import profiles
from edgevla.bundle.own_wheel import package_files, record, zip_bytes
from edgevla.install import provision
from edgevla.trust.envelope import ENVELOPE, MANIFEST, MANIFEST_SIG, MANIFEST_SUM, parse_envelope, sum_line
from edgevla.trust.keys import PrivateKey
from profiles.toml_text import arm_toml, target_toml

ARM = "metaworld-sawyer"
_ROOT = Path(__file__).parents[1]
_MAIN = Path(__file__).with_name("acting_release_main.py")
_SHIM = """import importlib.machinery, importlib.util, sys
sys.path.append({site!r})
spec = importlib.machinery.PathFinder.find_spec({name!r}, [{site!r}])
sys.modules[{name!r}] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[{name!r}])
"""


def write_release(
    dest: Path,
    key: PrivateKey | None,
    counter: int,
    behaviour: Mapping[str, Any] | None = None,
    extra: Mapping[str, bytes] | None = None,
    **release: Any,
) -> str:
    """Write the bundle to the folder `dest`; returns its id. `release` changes keys of its table."""
    wheels = _wheels()
    files = {
        **{f"runtime/wheels/{name}": raw for name, raw in wheels.items()},
        "runtime/provision.py": Path(str(provision.__file__)).read_bytes(),
        "profiles/target.toml": target_toml(profiles.load_target("host")),
        "profiles/arm.toml": arm_toml(profiles.load_arm(ARM)),
        "behaviour.json": json.dumps(dict(behaviour or {})).encode(),
        **(extra or {}),
    }
    files = {path: raw.encode() if isinstance(raw, str) else raw for path, raw in files.items()}
    paths = [f"runtime/wheels/{name}" for name in wheels]
    table = {
        "envelope": ENVELOPE,
        "counter": counter,
        "target": "host",
        "arch": platform.machine(),
        "python": "{}.{}".format(*sys.version_info),
        "wheels": paths,
        "agent_wheels": paths,
        "needs_gpu_wheel": False,
        **release,
    }
    entries = {path: {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)} for path, raw in files.items()}
    head = {"schema": "edgevla.bundle/3", "name": "tiny", "files": entries, "release": table}
    manifest = json.dumps(head).encode()
    files |= {MANIFEST: manifest, MANIFEST_SUM: sum_line(manifest)}
    if key is not None:
        files[MANIFEST_SIG] = key.sign(manifest)
    for path, raw in files.items():
        (dest / path).parent.mkdir(parents=True, exist_ok=True)
        (dest / path).write_bytes(raw)
    return parse_envelope(manifest).id


def robot_toml(port: str) -> str:
    """Settings of a robot without systemd. `port` must be there; nobody talks to it."""
    return f'service = "direct"\nport = "{port}"\ninstruction = "open the drawer"\nbest_effort = true\n'


@functools.cache
def _wheels() -> Mapping[str, bytes]:
    """File name -> wheel."""
    own = {inside: (_ROOT / inside).read_bytes() for inside in _needed()}
    own["edgevla/cli/main.py"] = _MAIN.read_bytes()
    own["edgevla/policy/engines.py"] = b"print('{\"engines\": {}}')\n"
    own |= {f"edgevla/{name}/__init__.py": b"" for name in ("cli", "policy")}
    site = str(Path(__import__("cryptography").__file__).parents[1])
    libraries = ("cryptography", "zstandard")
    shims = {f"{name}/__init__.py": _SHIM.format(name=name, site=site).encode() for name in libraries}
    script = {"edgevla-0.1.0.dist-info/entry_points.txt": b"[console_scripts]\nedgevla = edgevla.cli.main:main\n"}
    return {**_wheel("tinysite", "1.0", shims), **_wheel("edgevla", "0.1.0", {**own, **script})}


def _wheel(name: str, version: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    info = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = record(content, f"{info}/RECORD").encode()
    return {f"{name}-{version}-py3-none-any.whl": zip_bytes(content)}


def _needed() -> list[str]:
    """What the installer imports of us, asked of Python itself, with every profile."""
    paths = [path for name in ("install", "trust", "doctor") for path in (_ROOT / "edgevla" / name).glob("[a-z]*.py")]
    modules = ", ".join(".".join(path.relative_to(_ROOT).with_suffix("").parts) for path in paths)
    show = "print(*(getattr(module, '__file__', None) for module in sys.modules.values()))"
    code = f"import sys, edgevla.operate.say, {modules}\n{show}"
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(word).resolve() for word in done.stdout.split()}
    ours = package_files()
    files = {name for name, path in ours.items() if path.suffix == ".toml" or path.resolve() in loaded}
    tops = {name for name in ours if name.count("/") == 1 and name.endswith("__init__.py")}
    return sorted(files | tops)
