"""Residual networks up to the last feature map, under the names that torchvision gives their tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevla.errors import BadInput, explain

BLOCKS = {  # name -> blocks per stage, and whether they are bottlenecks
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
Norm = Callable[[int], nn.Module]


class FrozenNorm(nn.Module):
    """Batch norm with the statistics of training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = torch.as_tensor(self.running_mean), torch.as_tensor(self.running_var)
        return F.batch_norm(x, mean, variance, torch.as_tensor(self.weight), torch.as_tensor(self.bias), eps=1e-5)


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, or 1x1, 3x3, 1x1 with four times the width at the end."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, bottleneck: bool, norm: Norm) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        outputs = 4 * width if bottleneck else width

        def spatial(inputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, width, 3, stride, padding=dilation, dilation=dilation, bias=False)

        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = spatial(width)
            self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), norm(outputs)
        else:
            self.conv1 = spatial(inputs)
            self.conv2 = nn.Conv2d(width, width, 3, 1, padding=1, bias=False)
        self.bn1, self.bn2 = norm(width), norm(width)
        shortcut = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs)]
        self.downsample = nn.Sequential(*shortcut) if stride != 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(torch.relu(y)))
        return torch.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """Pictures (B, 3, h, w) to features (B, channels, h / 32, w / 32), rounded up.

    Args:
        name: one of `BLOCKS`.
        norm: makes the norm of a number of channels.
        dilate: keep the last stage at h / 16 and dilate it instead; only where there are bottlenecks.

    Raises:
        BadInput: another name, or dilation without bottlenecks.
    """

    def __init__(self, name: str, norm: Norm, dilate: bool = False) -> None:
        super().__init__()
        blocks, bottleneck = BLOCKS.get(name, ((), False))
        if not blocks or (dilate and not bottleneck):
            expected = f"one of {[*BLOCKS]}, and dilation from resnet50 on"
            got = f"{name}{' with dilation' if dilate else ''}"
            raise BadInput(explain("vision_backbone in config.json", expected, got, "distil by an adapter of your own"))
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), norm(64)
        self.channels, self.dilate = 64, dilate
        for stage, count in enumerate(blocks):
            width, last = 64 * 2**stage, dilate and stage == 3
            rows: list[nn.Module] = []
            for i in range(count):
                stride = 2 if i == 0 and stage and not last else 1
                rows.append(Block(self.channels, width, stride, 2 if last and i else 1, bottleneck, norm))
                self.channels = 4 * width if bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*rows))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the features of a picture."""
        for _ in range(4 if self.dilate else 5):
            height, width = (height + 1) // 2, (width + 1) // 2
        return height, width
