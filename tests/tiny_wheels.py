"""Wheels of a few hundred bytes and a lock of them, so that a release is built without any network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgevla.bundle.own_wheel import record, zip_bytes

# What the installer needs and what edgevla says that it needs, with their own requirements as the real ones have them.
TINY = {
    "cffi": ["pycparser"],
    "cryptography": ["cffi>=2", "typing-extensions>=4.13; python_version < '3.11'"],
    "mcap": [],
    "numpy": [],
    "onnxruntime": ["numpy>=1.26"],
    "pycparser": [],
    "pyserial": [],
    "rich": [],
    "tomli": [],
    "typer": ["rich"],
    "typing-extensions": [],
    "zstandard": [],
}
GROUPS = {"can": ["python-can", "canopen"], "camera": ["opencv-python-headless"], "tokenizer": ["tokenizers"]}
VERSION = "1.0"


def write_wheel(
    folder: Path,
    name: str,
    version: str = VERSION,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    headers: str = "License-Expression: MIT\n",
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """A sound wheel with one package of its own name; returns its path."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{headers}"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    content = {
        f"{plain}/__init__.py": f'"""The tiny {name}."""\n'.encode(),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        **(files or {}),
    }
    content[f"{info}/RECORD"] = record(content, f"{info}/RECORD").encode()
    path = folder / f"{plain}-{version}-{tag}.whl"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zip_bytes(content))
    return path


def write_tiny_wheels(folder: Path) -> list[Path]:
    """A wheel of everything that a robot has, for any computer."""
    extra = {name: [] for names in GROUPS.values() for name in names}
    return [write_wheel(folder, name, requires=requires) for name, requires in {**TINY, **extra}.items()]


def write_lock(folder: Path, cp: str, wheels: Sequence[Path]) -> Path:
    """The locks of those wheels for the Python 'cp311'; returns `folder`."""
    hashes = {
        path.name.split("-")[0].replace("_", "-"): hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels
    }
    others = {name: group for group, names in GROUPS.items() for name in names}
    (folder / cp).mkdir(parents=True)
    for group in ("base", *GROUPS):
        lines = [
            f"{name}=={VERSION} \\\n    --hash=sha256:{value}\n"
            for name, value in sorted(hashes.items())
            if others.get(name, "base") == group
        ]
        (folder / cp / f"{group}.txt").write_text("# made by tests/tiny_wheels.py\n" + "".join(lines), encoding="utf-8")
    return folder
