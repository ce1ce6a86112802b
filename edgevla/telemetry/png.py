"""A PNG encoder in a few lines (PNG specification, third edition, W3C 2025): 8-bit RGB or grey."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPE = {1: 0, 3: 2}  # channels -> IHDR colour type: greyscale, truecolour


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode uint8 (h, w, 3) RGB or (h, w) grey. Rows use the Sub filter, which suits rendered scenes."""
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in COLOUR_TYPE or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"PNG: expected uint8 (h, w, 3) or (h, w), got {image.dtype} {image.shape}")
    height, width, channels = pixels.shape
    filtered = pixels.copy()
    filtered[:, 1:] -= pixels[:, :-1]  # Sub: byte minus the byte one pixel to the left, modulo 256
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0], rows[:, 1:] = 1, filtered.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPE[channels], 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def data_uri(image: NDArray[np.uint8]) -> str:
    """The image as ``data:image/png;base64,...``."""
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
