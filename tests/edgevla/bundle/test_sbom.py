"""The bill of materials: complete, reproducible, and valid by CycloneDX's own schema."""

import json
from importlib.resources import files

import pytest
from cyclonedx.model.bom import Bom
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from edgevla.bundle.manifest import FileEntry
from edgevla.bundle.platforms import Platform
from edgevla.bundle.sbom import sbom_bytes
from edgevla.bundle.wheels import read_wheel
from tests.tiny_wheels import write_wheel

JETSON = Platform("3.10", "aarch64", "2.35")
GRAPHS = {
    "model/head.onnx": FileEntry("a" * 64, 1),
    "float/head.onnx": FileEntry("b" * 64, 2),
    "stats.json": FileEntry("c" * 64, 3),
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return [
        read_wheel(write_wheel(folder, "numpy", headers="License: BSD-3-Clause\n")),
        read_wheel(write_wheel(folder, "onnxruntime-gpu", requires=["numpy>=1"], headers="License: of its maker\n")),
        read_wheel(write_wheel(folder, "silent", headers="")),
        read_wheel(
            write_wheel(folder, "edgevla", requires=["numpy", "tomli; python_version > '3.12'"], version="0.1.0")
        ),
    ]


@pytest.fixture(scope="module")
def sbom(wheels):
    return json.loads(sbom_bytes("drawer", 7, JETSON, wheels, {"onnxruntime-gpu"}, GRAPHS))


def errors_of(sbom):
    """What CycloneDX's schema has to say."""
    folder = files("cyclonedx.schema._res")
    names = ("bom-1.6", "spdx", "jsf-0.82")
    schemas = {name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text()) for name in names}
    registry = Registry().with_resources(
        [(f"{n}.SNAPSHOT.schema.json", Resource.from_contents(s)) for n, s in schemas.items()]
    )
    registry = registry.with_resources([(s["$id"], Resource.from_contents(s)) for s in schemas.values()])
    return [error.message for error in Draft7Validator(schemas["bom-1.6"], registry=registry).iter_errors(sbom)]


def test_it_is_valid_by_the_schema_and_the_schema_refuses(sbom):
    assert errors_of(sbom) == []
    assert errors_of({**sbom, "specVersion": 1})
    assert errors_of({**sbom, "serialNumber": "7"})


def test_the_library_of_cyclonedx_reads_it(sbom):
    bom = Bom.from_json(sbom)
    assert {component.name for component in bom.components} == {
        "numpy",
        "onnxruntime-gpu",
        "silent",
        "edgevla",
        "model/head.onnx",
        "float/head.onnx",
    }


def test_every_wheel_stands_in_it_with_version_license_hash_and_purl(sbom, wheels):
    found = {component["name"]: component for component in sbom["components"]}
    for wheel in wheels:
        assert found[wheel.name]["version"] == wheel.version
        assert found[wheel.name]["hashes"] == [{"alg": "SHA-256", "content": wheel.sha256}]
    assert found["numpy"]["purl"] == "pkg:pypi/numpy@1.0"
    assert found["onnxruntime-gpu"]["purl"] == "pkg:generic/onnxruntime-gpu@1.0"
    assert found["numpy"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert found["onnxruntime-gpu"]["licenses"] == [{"license": {"name": "of its maker"}}]
    assert "licenses" not in found["silent"]
    assert found["model/head.onnx"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]


def test_who_needs_whom_is_that_of_the_robot(sbom):
    needs = {entry["ref"]: entry["dependsOn"] for entry in sbom["dependencies"]}
    assert needs["pkg:generic/edgevla@0.1.0"] == ["pkg:pypi/numpy@1.0"]
    assert needs["drawer@7"] == ["file:float/head.onnx", "file:model/head.onnx", "pkg:generic/edgevla@0.1.0"]


def test_the_same_content_has_the_same_bytes_and_other_content_another_serial_number(wheels, sbom):
    again = sbom_bytes("drawer", 7, JETSON, list(reversed(wheels)), {"onnxruntime-gpu"}, GRAPHS)
    assert json.loads(again) == sbom
    other = json.loads(sbom_bytes("drawer", 8, JETSON, wheels, {"onnxruntime-gpu"}, GRAPHS))
    assert other["serialNumber"] != sbom["serialNumber"]
    assert "timestamp" not in sbom["metadata"]
