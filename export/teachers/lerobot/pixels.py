"""What the convolutional policies do with pictures before their first layer. Linear, static, exportable."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.teachers.interface import CameraSpec
from export.teachers.lerobot.folder import PolicyFolder

Size = tuple[int, int]


class Pixels(nn.Module):
    """Pictures (B, K * N, h, w, 3) in [-1, 1] to (B, K * N, 3, h, w), each camera with its own statistics."""

    def __init__(self, folder: PolicyFolder) -> None:
        super().__init__()
        stats = [folder.image_stats[camera] for camera in folder.cameras]
        for name, rows in (("offset", [s.offset for s in stats]), ("scale", [s.scale for s in stats])):
            values = torch.from_numpy(np.array(rows, np.float32).reshape(1, len(stats), 3, 1, 1))
            self.register_buffer(name, values, persistent=False)
        self.cameras = len(stats)

    def forward(self, image: Tensor) -> Tensor:
        steps = image.shape[1] // self.cameras
        offset, scale = (getattr(self, name).repeat(1, steps, 1, 1, 1) for name in ("offset", "scale"))
        pixels: Tensor = ((image.permute(0, 1, 4, 2, 3) + 1) / 2 - offset) / scale
        return pixels


class Resize(nn.Module):
    """Bilinear with antialiasing, as two matrix products: rows, then columns."""

    def __init__(self, size: Size, target: Size) -> None:
        super().__init__()
        self.register_buffer("rows", _resampling(size[0], target[0]), persistent=False)
        self.register_buffer("columns", _resampling(size[1], target[1]).T.contiguous(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.as_tensor(self.rows) @ pixels @ torch.as_tensor(self.columns)


class CenterCrop(nn.Module):
    """The middle of a picture."""

    def __init__(self, size: Size, target: Size) -> None:
        super().__init__()
        self.top, self.left = (round((a - b) / 2) for a, b in zip(size, target, strict=True))
        self.height, self.width = target

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels[..., self.top : self.top + self.height, self.left : self.left + self.width]


def _resampling(size: int, target: int) -> Tensor:
    """Weights (target, size) by which torch mixes rows of pixels."""
    # As one square picture: torch 2.13 answers wrongly for pictures one pixel wide.
    lines = torch.eye(size)[None, None]
    mixed = F.interpolate(lines, size=(target, size), mode="bilinear", antialias=True, align_corners=False)
    return mixed[0, 0].contiguous()


def picture_size(folder: PolicyFolder) -> Size:
    """The one size of all pictures. Raises BadInput: cameras differ."""
    sizes = {folder.image_shapes[camera] for camera in folder.cameras}
    if len(sizes) != 1:
        got = {camera: folder.image_shapes[camera] for camera in folder.cameras}
        raise BadInput(explain(f"cameras of {folder.type}", "pictures of one size", f"{got}", "train at one size"))
    return sizes.pop()


def camera_specs(folder: PolicyFolder) -> tuple[CameraSpec, ...]:
    """Raw pictures must have the size in the config: the library itself feeds them as they come."""
    return tuple(CameraSpec(camera, *folder.image_shapes[camera]) for camera in folder.cameras)
