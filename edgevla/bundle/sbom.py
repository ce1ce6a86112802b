"""The bill of materials of a release: CycloneDX 1.6 JSON of what the robot will run. The same release, the same bytes.

No time stamp, and a serial number that is derived from the content.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from edgevla.bundle.locks import NOT_NEEDED
from edgevla.bundle.manifest import FileEntry
from edgevla.bundle.parts import json_bytes
from edgevla.bundle.platforms import Platform
from edgevla.bundle.wheels import Wheel, direct_needs

FILE = "sbom.cdx.json"
SPEC = "1.6"


def sbom_bytes(
    name: str,
    counter: int,
    platform: Platform,
    wheels: Sequence[Wheel],
    off_index: Iterable[str],
    files: Mapping[str, FileEntry],
) -> bytes:
    """sbom.cdx.json of the release `counter` of the policy `name`.

    off_index: names of wheels that are on no package index. files: of the policy bundle; its graphs are listed.
    """
    refs = {wheel.name: _purl(wheel, off_index) for wheel in wheels}
    graphs = sorted(path for path in files if path.endswith(".onnx"))
    top = f"{name}@{counter}"
    bom: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": top, "name": name, "version": str(counter)},
            "properties": [
                {"name": "edgevla:arch", "value": platform.arch},
                {"name": "edgevla:glibc", "value": platform.glibc},
                {"name": "edgevla:python", "value": platform.python},
            ],
        },
        "components": [
            *(_library(wheel, refs[wheel.name]) for wheel in sorted(wheels, key=lambda wheel: wheel.name)),
            *(_graph(path, files[path]) for path in graphs),
        ],
        "dependencies": [
            {"ref": top, "dependsOn": sorted([refs["edgevla"], *map(_graph_ref, graphs)])},
            *(_depends(wheel, refs, platform) for wheel in sorted(wheels, key=lambda wheel: wheel.name)),
        ],
    }
    digest = hashlib.sha256(json_bytes(bom)).hexdigest()
    return json_bytes({**bom, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}"})


def _library(wheel: Wheel, purl: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": wheel.name,
        "version": wheel.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        **({"licenses": [_license(wheel.license)]} if wheel.license else {}),
        "properties": [{"name": "edgevla:file", "value": wheel.file}],
    }


def _graph(path: str, entry: FileEntry) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": entry.sha256}]
    return {"type": "machine-learning-model", "bom-ref": _graph_ref(path), "name": path, "hashes": hashes}


def _graph_ref(path: str) -> str:
    return f"file:{path}"


def _depends(wheel: Wheel, refs: Mapping[str, str], platform: Platform) -> dict[str, Any]:
    unwanted = NOT_NEEDED.get(wheel.name, frozenset())
    needs = {
        refs[name]
        for name in direct_needs(wheel.name, wheel.requires, platform)
        if name in refs and name not in unwanted
    }
    return {"ref": refs[wheel.name], "dependsOn": sorted(needs)}


def _purl(wheel: Wheel, off_index: Iterable[str]) -> str:
    """Package URL: of the Python index only for what can be fetched there."""
    kind = "generic" if wheel.name in off_index or wheel.name == "edgevla" else "pypi"
    return f"pkg:{kind}/{wheel.name}@{wheel.version.replace('+', '%2B')}"


def _license(text: str) -> dict[str, Any]:
    """An SPDX expression as one, any other words as a name."""
    try:
        return {"expression": str(canonicalize_license_expression(text))}
    except InvalidLicenseExpression:
        return {"license": {"name": text}}
