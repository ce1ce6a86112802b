"""Which wheel tags a robot runs."""

import pytest
from packaging.tags import Tag, parse_tag

from edgevla.bundle.platforms import Platform, pip_flags, platform_of
from edgevla.errors import BadInput, Refused
from profiles import load_target

JETSON = Platform("3.10", "aarch64", "2.35")


@pytest.mark.parametrize(
    "tag",
    [
        "cp310-cp310-manylinux_2_28_aarch64",
        "cp310-cp310-manylinux_2_35_aarch64",
        "cp310-cp310-manylinux2014_aarch64",
        "cp37-abi3-manylinux_2_17_aarch64",
        "cp310-none-any",
        "py3-none-any",
        "py2.py3-none-any",
    ],
)
def test_a_jetson_runs(tag):
    assert parse_tag(tag) & JETSON.ranks.keys()


@pytest.mark.parametrize(
    "tag",
    [
        "cp310-cp310-manylinux_2_28_x86_64",  # another processor
        "cp310-cp310-manylinux_2_36_aarch64",  # a newer C library than Ubuntu 22.04 has
        "cp311-cp311-manylinux_2_28_aarch64",  # another Python
        "cp311-abi3-manylinux_2_28_aarch64",  # stable from 3.11 on
        "cp310-cp310-musllinux_1_2_aarch64",
        "cp310-cp310-linux_aarch64",  # promises no C library
        "py2-none-any",
    ],
)
def test_a_jetson_does_not_run(tag):
    assert not parse_tag(tag) & JETSON.ranks.keys()


def test_a_wheel_of_the_maker_may_promise_no_c_library():
    assert Tag("cp310", "cp310", "linux_aarch64") in JETSON.vendor_tags
    assert Tag("cp310", "cp310", "linux_x86_64") not in JETSON.vendor_tags


def test_the_most_demanding_tag_is_the_best():
    ranks = JETSON.ranks
    order = [
        "cp310-cp310-manylinux_2_35_aarch64",
        "cp310-cp310-manylinux_2_17_aarch64",
        "cp310-abi3-manylinux_2_35_aarch64",
    ]
    found = [ranks[next(iter(parse_tag(tag)))] for tag in [*order, "py3-none-any"]]
    assert found == sorted(found)


def test_x86_also_knows_the_oldest_names():
    names = Platform("3.11", "x86_64", "2.28").names
    assert names[0] == "manylinux_2_28_x86_64"
    assert {"manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"} <= set(names)
    assert "manylinux2010_aarch64" not in JETSON.names


def test_pip_is_told_python_abi_and_every_platform():
    flags = pip_flags(JETSON)
    assert flags[:5] == ["--only-binary=:all:", "--python-version", "3.10", "--implementation", "cp"]
    assert flags.count("--platform") == len(JETSON.names)
    assert [flags[i + 1] for i, flag in enumerate(flags) if flag == "--abi"] == ["cp310", "abi3", "none"]


def test_every_shipped_target_names_a_platform():
    found = platform_of(load_target("jetson-orin"))
    assert (found.python, found.arch, found.glibc) == ("3.10", "aarch64", "2.35")
    assert platform_of(load_target("generic-aarch64")).cp == "cp311"


def test_a_target_without_python_is_refused_by_name():
    from dataclasses import replace

    with pytest.raises(Refused, match="no release can be built for target host"):
        platform_of(replace(load_target("host"), python=""))


@pytest.mark.parametrize("changes", [{"glibc": "3.1"}, {"glibc": "2"}, {"glibc": "2.x"}, {"arch": "riscv64"}])
def test_odd_platforms_are_refused(changes):
    with pytest.raises(BadInput):
        _ = Platform(**{"python": "3.10", "arch": "aarch64", "glibc": "2.35", **changes}).names
