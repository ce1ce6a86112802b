"""The description of the host: this one for real, and others from files as procfs would show them."""

import json

from edgevla.telemetry.host import describe_host, host_line, steal_s


def test_this_host_is_described_and_fits_json():
    host = json.loads(json.dumps(describe_host()))
    assert host["cores_usable"] >= 1
    assert host["packages"]["numpy"]
    assert host["kernel"] in host_line(host)


def test_a_jetson_names_itself_by_its_device_tree(tmp_path):
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_bytes(b"NVIDIA Jetson Orin NX\0")
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd aes asimddp\nCPU part\t: 0xd42\n")
    host = describe_host(tmp_path)
    assert host["cpu"] == "NVIDIA Jetson Orin NX"
    assert host["flags"] == ["asimd", "asimddp"]
    assert (host["vnni"], host["bf16"]) == (False, False)


def test_vnni_and_bf16_come_from_the_flags(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "model name\t: Some  CPU @ 3 GHz\nflags\t\t: fpu avx2 avx512_vnni avx512_bf16 hypervisor\n"
    )
    host = describe_host(tmp_path)
    assert (host["cpu"], host["vnni"], host["bf16"]) == ("Some CPU @ 3 GHz", True, True)
    assert "virtual machine" in host["virtual"]


def test_what_cannot_be_read_is_none_and_never_guessed(tmp_path):
    host = describe_host(tmp_path)
    assert (host["cpu"], host["memory_mb"], host["steal_s"]) == (None, None, None)
    assert "CPU unknown" in host_line(host)


def test_steal_is_the_eighth_field_in_clock_ticks(tmp_path):
    (tmp_path / "stat").write_text("cpu  10 0 20 300 4 0 1 250 0 0\ncpu0 1 2 3\n")
    assert steal_s(tmp_path) == 2.5  # USER_HZ is 100 on every Linux we name


def test_no_host_is_said_as_such():
    assert host_line(None) == "host not recorded"
