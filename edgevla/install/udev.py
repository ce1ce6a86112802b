"""udev rules of a robot: latency of USB serial adapters, stable names of the arm's port. Pure."""

from __future__ import annotations

CAN = "edgevla-can.service"
# Vendor (and product) of the adapters that arms come with; the name is that of the kernel's driver.
ADAPTERS = (
    ("FTDI, of Dynamixel U2D2 and many others", "0403", "60*"),
    ("WCH CH34x, of Feetech and Waveshare boards", "1a86", "*"),
    ("Silicon Labs CP210x", "10c4", "ea*"),
)


def rules(user: str, can: bool) -> str:
    """99-edgevla.rules."""
    lines = [
        "# Rendered by edgevla: a release replaces it.",
        "# FTDI collects bytes for 16 ms by default, which holds a request/reply loop near 60 Hz. CH34x and CP210x",
        "# hand bytes on at once and have no such timer; what slows them down is a port that was put to sleep.",
        'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"',
    ]
    for name, vendor, product in ADAPTERS:
        match = f'ATTR{{idVendor}}=="{vendor}", ATTR{{idProduct}}=="{product}"'
        lines += [
            f"# {name}",
            f'ACTION=="add", SUBSYSTEM=="usb", {match}, TEST=="power/control", ATTR{{power/control}}="on"',
        ]
    lines += [
        "# /dev/edgevla-arm: the adapter, where there is one. Several are told apart by their serial number, or by the",
        "# socket that they sit in: /dev/edgevla-arm-SERIAL, /dev/edgevla-arm-PATH. ModemManager keeps off.",
    ]
    for _, vendor, product in ADAPTERS:
        match = f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}"'
        lines += [
            f'{match}, GROUP="dialout", MODE="0660", ENV{{ID_MM_DEVICE_IGNORE}}="1", SYMLINK+="edgevla-arm"',
            f'{match}, ENV{{ID_SERIAL_SHORT}}=="?*", SYMLINK+="edgevla-arm-$env{{ID_SERIAL_SHORT}}"',
            f'{match}, ENV{{ID_PATH}}=="?*", SYMLINK+="edgevla-arm-$env{{ID_PATH}}"',
        ]
    lines += [
        "# The servo asks the cores to stay out of the idle states that are slow to leave.",
        f'KERNEL=="cpu_dma_latency", GROUP="{user}", MODE="0660"',
    ]
    if can:
        lines += [
            "# A CAN adapter that is plugged in comes up at the arm's bit rates (280: ARPHRD_CAN).",
            f'ACTION=="add", SUBSYSTEM=="net", ATTR{{type}}=="280", TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="{CAN}"',
        ]
    return "\n".join(lines) + "\n"
