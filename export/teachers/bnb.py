"""bitsandbytes layers: quantized a few rows at a time, read from checkpoints that hold them, made plain again.

A layer is `Packed` on its way: codes with their scales, not yet part of a module. Traps of bitsandbytes 0.50 on a CPU
that this file goes around (each has a test):
- its nf4 kernels count blocks of 64 per row; where the width is no multiple of 64 (SmolVLA's expert: 720) they scale
  with the wrong block and say nothing. Codes are unpacked here as one flat run, as they were packed.
- on CPUs with AVX512-BF16 the first forward repacks the codes and rounds the scales; layers made here never do.
- int8 takes rows (n, k) only and warns at every call that it casts to half.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevla.errors import BadInput, explain
from export.teachers.halves import HalfEmbedding, HalfLinear, compute_dtype

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
import bitsandbytes  # noqa: E402

BLOCK = 64  # weights that share one scale in nf4
NESTED_BLOCK = 256  # scales that share one scale of their own
OUTLIER = 6.0  # activations above it are multiplied in float, columns of them (LLM.int8, section 3.2)
CHUNK_WEIGHTS = 1 << 18  # quantized at a time: what quantizing takes beside the weights is a few times 1 MB
_CODES = {"nf4": 16, "fp4": 16}
_PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_AGAIN = "fetch it again, or save it again with save_pretrained"


@dataclass(frozen=True)
class Packed:
    """A quantized weight matrix. `state`: QuantState of 4-bit codes, or the float32 (n,) row maxima of int8."""

    kind: str  # nf4 | fp4 | int8
    codes: Tensor  # uint8 (n * k / 2, 1), two codes a byte, or int8 (n, k)
    state: Any

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape if self.kind == "int8" else torch.Size(self.state.shape)

    def dequantise(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight matrix (n, k)."""
        if self.kind == "int8":
            return (self.codes.float() * (self.state / 127).unsqueeze(1)).to(dtype)
        flat = copy.copy(self.state)
        flat.shape, flat.dtype = torch.Size([self.shape.numel()]), dtype  # one row: blocks run across the rows
        return bitsandbytes.functional.dequantize_4bit(self.codes, flat).view(self.shape)


def quantise(weight: Tensor, kind: str) -> Packed:
    """Weight matrix (n, k) of any float dtype -> nf4 or int8, the same codes as of the whole matrix at once."""
    return _quantise_int8(weight) if kind == "int8" else _quantise_nf4(weight)


def _quantise_int8(weight: Tensor) -> Packed:
    codes, maxima = torch.empty(weight.shape, dtype=torch.int8), torch.empty(len(weight))
    rows = max(1, CHUNK_WEIGHTS // weight.shape[1])
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        codes[part], maxima[part], _ = bitsandbytes.functional.int8_vectorwise_quant(weight[part].half())
    return Packed("int8", codes, maxima)


def _quantise_nf4(weight: Tensor) -> Packed:
    flat, count = weight.reshape(-1), weight.numel()
    codes, absmax = torch.empty(-(count // -2), 1, dtype=torch.uint8), torch.empty(-(count // -BLOCK))
    for start in range(0, count, CHUNK_WEIGHTS):  # a whole number of blocks
        end = min(start + CHUNK_WEIGHTS, count)
        part, state = bitsandbytes.functional.quantize_4bit(flat[start:end].float(), blocksize=BLOCK, quant_type="nf4")
        codes[start // 2 : -(end // -2)], absmax[start // BLOCK : -(end // -BLOCK)] = part, state.absmax
    state.shape, state.dtype, state.nested = weight.shape, torch.float32, True
    state.offset = absmax.mean()
    state.absmax, state.state2 = bitsandbytes.functional.quantize_blockwise(
        absmax - state.offset, blocksize=NESTED_BLOCK
    )
    return Packed("nf4", codes, state)


class Nf4Linear(bitsandbytes.nn.Linear4bit):
    """bitsandbytes' 4-bit layer with a forward that is right for every width and the same on every CPU."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, bias, quant_type="nf4", compute_dtype=compute_dtype(), device="meta")
        self.support_avx512bf16_for_cpu = False

    def install(self, packed: Packed) -> None:
        self.weight = bitsandbytes.nn.Params4bit(
            packed.codes, quant_state=packed.state, quant_type=packed.kind, bnb_quantized=True, module=self
        )
        self.quant_state = packed.state

    def forward(self, x: Tensor) -> Tensor:
        weight = Packed("nf4", self.weight.data, self.weight.quant_state).dequantise(self.compute_dtype)
        y = functional.linear(x.to(self.compute_dtype), weight).to(x.dtype)
        return y if self.bias is None else y + self.bias


class Int8Linear(bitsandbytes.nn.Linear8bitLt):
    """bitsandbytes' LLM.int8 layer for inputs of any rank: activations are quantized too, outlier columns are not."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, bias, has_fp16_weights=False, threshold=OUTLIER, device="meta")

    def install(self, packed: Packed) -> None:
        self.weight = bitsandbytes.nn.Int8Params(
            packed.codes, requires_grad=False, has_fp16_weights=False, CB=packed.codes, SCB=packed.state
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], -1)


def make_layer(kind: str, inputs: int, outputs: int, bias: bool) -> Nf4Linear | Int8Linear:
    """An empty quantized layer; `install` gives it its weight."""
    return (Nf4Linear if kind == "nf4" else Int8Linear)(inputs, outputs, bias)


def state_tensors(layer: nn.Module) -> list[Tensor]:
    """What a quantized layer holds beside its parameters: scales, scales of scales, code books."""
    if isinstance(layer, bitsandbytes.nn.Linear8bitLt):
        return [_int8_of(layer).state]
    if isinstance(layer, bitsandbytes.nn.Linear4bit):
        state = layer.weight.quant_state
        nested = [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
        return [state.absmax, state.code, *nested]
    return []


def collect(source: Iterable[tuple[str, Tensor]], where: str) -> Iterator[tuple[str, Tensor | Packed]]:
    """Tensors as they come, but the parts of a bitsandbytes layer gathered, in any order, into one `Packed`.

    Raises:
        BadInput: a layer whose parts are incomplete or do not fit each other, naming it and `where`.
    """
    pending: dict[str, dict[str, Tensor]] = {}
    for name, tensor in source:
        layer, part = _part(name, tensor)
        if part == "weight_format":
            _refuse_format(name, tensor, where)
        elif part is None:
            yield name, tensor
            del tensor
        else:
            parts = pending.setdefault(layer, {})
            parts[part] = tensor.clone()
            if _complete(parts, layer, where):
                yield f"{layer}.weight", _pack(pending.pop(layer), layer, where)
    for layer, parts in pending.items():
        expected = "weight in uint8 with absmax, quant_map and quant_state, or weight in int8 with SCB"
        raise BadInput(explain(f"{where}: quantized layer {layer}", expected, ", ".join(sorted(parts)), _AGAIN))


def _part(name: str, tensor: Tensor) -> tuple[str, str | None]:
    """Layer and part of a tensor of a bitsandbytes layer; part None: a tensor like any other."""
    head, _, last = name.rpartition(".")
    if last in ("SCB", "weight_format"):
        return head, last
    if last.startswith("bitsandbytes__") and head.endswith(".weight.quant_state"):
        return head.removesuffix(".weight.quant_state"), "quant_state." + last
    if last in _PARTS and head.endswith(".weight"):
        return head.removesuffix(".weight"), last
    if last == "weight" and tensor.dtype in (torch.uint8, torch.int8):
        return head, "weight"
    return name, None


def _refuse_format(name: str, tensor: Tensor, where: str) -> None:
    if int(tensor) != 0:
        raise BadInput(
            explain(f"{where}: {name}", "0, rows in order", int(tensor), "save it with bitsandbytes >= 0.45")
        )


def _complete(parts: Mapping[str, Tensor], layer: str, where: str) -> bool:
    if "SCB" in parts:
        return "weight" in parts
    state = next((value for part, value in parts.items() if part.startswith("quant_state")), None)
    needed = {"weight", "absmax", "quant_map"}
    if state is None or not needed <= set(parts):
        return False
    nested = "nested_blocksize" in _state_values(state, layer, where)
    return not nested or {"nested_absmax", "nested_quant_map"} <= set(parts)


def _state_values(state: Tensor, layer: str, where: str) -> dict[str, Any]:
    """The numbers that bitsandbytes packs as JSON bytes into a tensor."""
    try:
        values: dict[str, Any] = dict(bitsandbytes.utils.unpack_tensor_to_dict(state))
    except (ValueError, TypeError) as error:
        raise BadInput(explain(f"{where}: {layer}.weight.quant_state", "JSON in bytes", error, _AGAIN)) from error
    return values


def _pack(parts: dict[str, Tensor], layer: str, where: str) -> Packed:
    if "SCB" in parts:
        packed = Packed("int8", parts["weight"], parts["SCB"].float())
        sound = packed.codes.ndim == 2 and packed.codes.dtype == torch.int8
        sound = sound and packed.state.shape == packed.codes.shape[:1] and bool(packed.state.isfinite().all())
        return packed if sound else _refuse_parts(parts, layer, where)
    codes = parts.pop("weight")
    try:
        state = bitsandbytes.functional.QuantState.from_dict(dict(parts), device=torch.device("cpu"))
        sound = _sound(codes, state)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        sound = False
    return Packed(state.quant_type, codes, state) if sound else _refuse_parts({**parts, "weight": codes}, layer, where)


def _sound(codes: Tensor, state: Any) -> bool:
    """Do the parts fit each other? The kernels read through bare pointers and check nothing."""
    if state.shape is None or len(state.shape) != 2 or state.blocksize not in (32, 64, 128, 256, 512, 1024):
        return False
    weights = state.shape.numel()
    scales = -(weights // -state.blocksize)
    sound = codes.dtype == torch.uint8 and codes.numel() == -(weights // -2) and state.absmax.numel() == scales
    sound = sound and state.code.numel() == _CODES.get(state.quant_type)
    if state.nested:
        outer = state.state2
        sound = sound and state.absmax.dtype == torch.uint8 and outer.code.numel() == 256
        sound = sound and outer.blocksize > 0 and outer.absmax.numel() == -(scales // -outer.blocksize)
        return bool(sound and outer.absmax.isfinite().all() and state.offset.isfinite())
    return bool(sound and state.absmax.dtype == torch.float32 and state.absmax.isfinite().all())


def _refuse_parts(parts: Mapping[str, Tensor], layer: str, where: str) -> Packed:
    got = ", ".join(f"{name} {str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for name, t in sorted(parts.items()))
    raise BadInput(explain(f"{where}: quantized layer {layer}", "finite parts that fit each other", got, _AGAIN))


def dequantise(module: nn.Module) -> nn.Module:
    """The module with every reduced layer replaced, in place, by a plain float32 one: what torch.onnx exports.

    Takes the layers of this package and those of transformers' `BitsAndBytesConfig`; a module that is itself such a
    layer is returned anew. Weights that were one tensor stay one.
    """
    made: dict[int, nn.Module] = {}
    weights: dict[int, nn.Parameter] = {}
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        plain = made.get(id(layer)) or _plain(layer, weights)
        if plain is None:
            continue
        made[id(layer)] = plain
        if not path:
            return plain
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, plain)
    return module


def _plain(layer: nn.Module, weights: dict[int, nn.Parameter]) -> nn.Module | None:
    if isinstance(layer, HalfEmbedding):
        plain: nn.Module = nn.Embedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, device="meta")
        matrix = layer.weight.detach().float
    elif isinstance(layer, bitsandbytes.nn.Linear4bit):
        plain, matrix = _meta_linear(layer), _nf4_of(layer).dequantise
    elif isinstance(layer, bitsandbytes.nn.Linear8bitLt):
        plain, matrix = _meta_linear(layer), _int8_of(layer).dequantise
    elif isinstance(layer, HalfLinear):
        plain, matrix = _meta_linear(layer), layer.weight.detach().float
    else:
        return None
    if id(layer.weight) not in weights:
        weights[id(layer.weight)] = nn.Parameter(matrix(), requires_grad=False)
    plain.weight = weights[id(layer.weight)]
    return plain.train(layer.training)


def _meta_linear(layer: nn.Linear) -> nn.Linear:
    plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
    return plain


def _nf4_of(layer: Any) -> Packed:
    layer.state_dict()  # undoes, in place, the repacking of a first forward on AVX512-BF16
    state = layer.weight.quant_state
    return Packed(state.quant_type, layer.weight.data, state)


def _int8_of(layer: Any) -> Packed:
    maxima = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB  # moves at the first forward
    return Packed("int8", layer.weight.data, maxima)
