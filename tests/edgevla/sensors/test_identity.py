"""Ids of cameras: one per device and place, the same every time. The trees are those of sysfs and a device tree."""

import pytest

from edgevla.errors import DeviceFault
from edgevla.sensors import identity
from edgevla.sensors.sources.base import parse_source


def usb_camera(sys, node, port, serial="200901010001", index="0", vendor="046d", product="0825"):
    """What Linux shows of a USB camera: a link from class/video4linux into devices."""
    device = sys / "devices/pci0000:00/usb1" / port
    entry = device / f"{port}:1.0" / "video4linux" / node
    entry.mkdir(parents=True)
    for name, text in (("idVendor", vendor), ("idProduct", product), ("serial", serial)):
        if text:
            (device / name).write_text(text + "\n")
    (entry / "index").write_text(index + "\n")
    (entry / "name").write_text("UVC Camera\n")
    (entry / "device").symlink_to(device / f"{port}:1.0")
    (sys / "class/video4linux").mkdir(parents=True, exist_ok=True)
    (sys / "class/video4linux" / node).symlink_to(entry)


def test_a_usb_camera_is_named_by_vendor_product_serial_port_and_node(tmp_path):
    usb_camera(tmp_path, "video0", "1-2.3")
    assert identity.of_v4l2("/dev/video0", tmp_path) == "v4l2:usb-046d:0825:200901010001@1-2.3#0"


def test_the_id_does_not_depend_on_the_number_of_the_node(tmp_path):
    usb_camera(tmp_path / "before", "video0", "1-2")
    usb_camera(tmp_path / "after", "video7", "1-2")
    before, after = (
        identity.of_v4l2(f"/dev/{n}", tmp_path / d) for d, n in (("before", "video0"), ("after", "video7"))
    )
    assert before == after


@pytest.mark.parametrize("serial", ["", "SN0001"])
def test_two_cameras_of_one_make_differ_by_their_port(tmp_path, serial):
    usb_camera(tmp_path, "video0", "1-1", serial)
    usb_camera(tmp_path, "video2", "1-2", serial)
    assert identity.of_v4l2("/dev/video0", tmp_path) != identity.of_v4l2("/dev/video2", tmp_path)


def test_a_camera_without_usb_is_named_by_its_place(tmp_path):
    device = tmp_path / "devices/platform/vivid.0"
    entry = device / "video4linux/video0"
    entry.mkdir(parents=True)
    (entry / "name").write_text("vivid-000-vid-cap\n")
    (entry / "device").symlink_to(device)
    (tmp_path / "class/video4linux").mkdir(parents=True)
    (tmp_path / "class/video4linux/video0").symlink_to(entry)
    assert identity.of_v4l2("/dev/video0", tmp_path) == "v4l2:vivid-000-vid-cap@platform/vivid.0#0"


@pytest.mark.parametrize("path", ["/dev/video99", "/dev/null", "/nowhere/../etc/passwd"])
def test_a_path_that_is_no_camera_is_refused(tmp_path, path):
    with pytest.raises(DeviceFault, match="no camera at"):
        identity.of_v4l2(path, tmp_path)


def test_a_csi_camera_is_named_by_port_and_sensor(tmp_path):
    entry = tmp_path / "class/video4linux/video1"
    entry.mkdir(parents=True)
    (entry / "name").write_text("vi-output, imx219 10-0010\n")
    assert identity.of_csi(1, tmp_path, tmp_path) == "csi:1:vi-output_imx219_10-0010"


def test_a_csi_camera_without_a_node_is_named_by_its_modules_badge(tmp_path):
    (tmp_path / "module0").mkdir()
    (tmp_path / "module0/badge").write_bytes(b"jakku_front_RBP194\0")
    assert identity.of_csi(0, tmp_path, tmp_path) == "csi:0:jakku_front_RBP194"
    assert identity.has_csi_module(0, tmp_path)
    assert not identity.has_csi_module(1, tmp_path)


def test_a_csi_camera_that_nothing_names_is_refused(tmp_path):
    with pytest.raises(DeviceFault, match="no CSI camera 3"):
        identity.of_csi(3, tmp_path, tmp_path)


def test_a_pipeline_is_named_by_its_text():
    one, same, other = (parse_source(f"gst:{text}") for text in ("videotestsrc", "videotestsrc ", "v4l2src"))
    # sha256("videotestsrc"), first 32 digits: printf videotestsrc | sha256sum
    assert identity.of_source(one) == "gst:sha256:50e8fdb625d41dc4fe90df0f13bfc9c4"
    assert identity.of_source(one) == identity.of_source(same) != identity.of_source(other)


def test_a_recording_is_named_by_its_content(tmp_path):
    a, b = tmp_path / "a.mp4", tmp_path / "b.mp4"
    a.write_bytes(b"abc")
    b.write_bytes(b"abc")
    # sha256("abc"): FIPS 180-2, appendix B.1
    assert identity.of_source(parse_source(f"file:{a}")) == "file:sha256:ba7816bf8f01cfea414140de5dae2223"
    assert identity.of_file(a) == identity.of_file(b)
    assert identity.of_source(parse_source(f"file:{a},loop")) == identity.of_file(a)


def test_a_folder_is_named_by_names_and_contents(tmp_path):
    (tmp_path / "1.png").write_bytes(b"abc")
    first = identity.of_file(tmp_path)
    (tmp_path / "1.png").rename(tmp_path / "2.png")
    assert identity.of_file(tmp_path) != first
