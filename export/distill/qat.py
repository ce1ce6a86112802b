"""Quantization-aware finishing: the last stretch of training computes as the int8 artifact will.

Which layers: the linear ones that the quantizer takes (both sides `MIN_SIDE` or more), less those that the student
says stay in float. How, for one sample (one run of the graph):

    dynamic-s8  weight int8, symmetric, one scale per output channel, chosen as the quantizer chooses it;
                activation uint8, one scale and zero-point per tensor from its least and largest value and zero
    trt         weight the same; activation int8, symmetric, one scale per layer, calibrated when the finishing starts

Rounding passes its gradient through. Layers change their class and nothing else: names, weights and state stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import linear

from export.quantize.graph import MIN_SIDE
from export.quantize.scales import LEVELS, channel_scales
from export.students.interface import Student

KINDS = ("dynamic-s8", "trt")
_TINY = 1e-12


class _Round(torch.autograd.Function):
    """To the nearest whole number, halves to even, as ONNX Runtime; the gradient of doing nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def whole_numbers(x: Tensor) -> Tensor:
    """Rounded, gradient kept."""
    result: Tensor = _Round.apply(x)
    return result


def weight_s8(weight: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers -127 to 127 of a weight (out, in), and the scale of each output channel (out,).

    ratio: of the channel's largest magnitude that the grid reaches, (out,).
    """
    scale = (weight.detach().abs().amax(1) * ratio).clamp_min(_TINY) / LEVELS
    return whole_numbers(weight / scale[:, None]).clamp(-LEVELS, LEVELS), scale


@torch.no_grad()
def grid_ratios(weight: Tensor) -> Tensor:
    """What the quantizer would choose for this weight (out, in): see `channel_scales`. Float32 (out,)."""
    chosen = torch.from_numpy(channel_scales(weight.detach().float().numpy(), 0))
    return chosen * LEVELS / weight.detach().abs().amax(1).clamp_min(_TINY)


def dynamic_u8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers -255 to 255 of x (B, ..., in), zero-point taken off, and the scale of each sample (B, 1, ...)."""
    x, dims = x.float(), tuple(range(1, x.ndim))
    low, high = x.detach().amin(dims, keepdim=True).clamp_max(0), x.detach().amax(dims, keepdim=True).clamp_min(0)
    scale = ((high - low) / 255).clamp_min(_TINY)
    zero = torch.round(-low / scale).clamp(0, 255)
    return (whole_numbers(x / scale) + zero).clamp(0, 255) - zero, scale


class DynamicS8Linear(nn.Linear):
    """As MatMulInteger behind DynamicQuantizeLinear."""

    ratio: Tensor

    def forward(self, x: Tensor) -> Tensor:
        weight, weight_scale = weight_s8(self.weight, self.ratio)
        numbers, scale = dynamic_u8(x)
        return _scaled(linear(numbers, weight), scale * weight_scale, self.bias)


class TrtLinear(nn.Linear):
    """As a MatMul between Q/DQ pairs of symmetric int8."""

    ratio: Tensor
    input_scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        weight, weight_scale = weight_s8(self.weight, self.ratio)
        numbers = whole_numbers(x.float() / self.input_scale).clamp(-128, 127)
        return _scaled(linear(numbers, weight), self.input_scale * weight_scale, self.bias)


def _scaled(product: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    # whole numbers up to 256 are exact in bfloat16 too, so autocast changes only the sum's last digits
    out = product.float() * scale
    return out if bias is None else out + bias


_CLASSES: dict[str, type[nn.Linear]] = {"dynamic-s8": DynamicS8Linear, "trt": TrtLinear}


def quantized_layers(student: Student) -> dict[str, nn.Linear]:
    """The linear layers that the int8 artifact quantizes, by name."""
    stay = student.float_layers()
    return {
        name: module
        for name, module in student.named_modules()
        if isinstance(module, nn.Linear) and min(module.weight.shape) >= MIN_SIDE and name not in stay
    }


def start_finishing(student: Student, kind: str, calibrate: Callable[[], object]) -> int:
    """From here on the student computes as its artifact; returns how many layers do.

    Args:
        student: in training or not.
        kind: of `KINDS`.
        calibrate: runs the student on one batch; called for `trt` only, before.
    """
    layers = quantized_layers(student)
    if kind == "trt":
        _calibrate(layers, calibrate)
    for layer in layers.values():
        layer.register_buffer("ratio", grid_ratios(layer.weight), persistent=False)
        layer.__class__ = _CLASSES[kind]
    return len(layers)


def stop_finishing(student: Student) -> None:
    """Back to float."""
    for layer in student.modules():
        if isinstance(layer, DynamicS8Linear | TrtLinear):
            layer.__class__ = nn.Linear  # type: ignore[assignment]


def _calibrate(layers: dict[str, nn.Linear], run: Callable[[], object]) -> None:
    """The largest magnitude that goes into each layer, over all processes, sets its scale."""
    largest = {name: torch.zeros(()) for name in layers}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def seen(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            largest[name] = torch.maximum(largest[name], inputs[0].detach().abs().max().float())

        return seen

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    together = torch.stack(list(largest.values())) if largest else torch.zeros(0)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
    for layer, value in zip(layers.values(), together, strict=True):
        layer.register_buffer("input_scale", value.clamp_min(_TINY) / 127, persistent=False)
