"""A teacher in the precision that fits: fp32, bf16, int8 or nf4, its weights loaded one tensor at a time.

What is reduced, and what is not:
- linear layers hold nearly all bytes: they take the precision asked for;
- embeddings are read row by row and nothing averages their error away: bf16, never fewer bits;
- layers that make or read the numbers of state, action and flow time stay fp32 up to 4 M weights, bf16 above (a
  language head), and so do small ones: 1 % of the bytes, but all of the action;
- norms, biases, convolutions, position tables and whatever else is no linear layer stay fp32.
Activations are float32 everywhere; a reduced layer casts what it takes and what it gives. An adapter must call its
layers: one that reads `layer.weight` itself (as `nn.MultiheadAttention` does, which is left alone) cannot be reduced.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgevla.errors import BadInput, Refused, Usage, explain
from export.teachers.halves import HalfEmbedding, HalfLinear

if TYPE_CHECKING:
    from export.teachers.bnb import Packed

PRECISIONS = ("fp32", "bf16", "int8", "nf4")
SMALL_WEIGHTS = 65_536  # below it a layer stays fp32
LARGE_WEIGHTS = 1 << 22  # above it a sensitive layer is bf16
BYTES_A_WEIGHT = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.516}  # nf4: 4 bits, 8 a block, 32 a block of blocks
SPARE_BYTES = 256 << 20  # what loading takes beside the weights, at most
_SENSITIVE = re.compile(r"(?:^|[._])(?:state|action|time|head)(?:[._]|$)")
_AGAIN = "check config.json, or fetch it again"


def precision_of(name: str, layer: nn.Module, precision: str, tied: bool = False) -> str:
    """What the layer called `name` is kept in when `precision` is asked for. Only exact `nn` types are reduced."""
    if precision == "fp32" or type(layer) not in (nn.Linear, nn.Embedding):
        return "fp32"
    if type(layer) is nn.Embedding or tied:
        return "bf16"
    weights = layer.in_features * layer.out_features if isinstance(layer, nn.Linear) else 0
    if _SENSITIVE.search(name):
        return "fp32" if weights <= LARGE_WEIGHTS else "bf16"
    return precision if weights >= SMALL_WEIGHTS else "fp32"


@dataclass
class _Slot:
    """One tensor of the module, under all its names: where it goes and in what precision."""

    names: list[str]
    shape: torch.Size
    precision: str | None  # None: a buffer, whose dtype is kept
    dtype: torch.dtype
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)
    filled: bool = False
    sha256: str = ""  # of what came first, where a tensor has two names


def load_layerwise(
    module: nn.Module,
    source: Iterable[tuple[str, Tensor]],
    precision: str = "fp32",
    where: str = "the checkpoint",
) -> nn.Module:
    """Fills a module, layer by layer, and returns it in eval mode with nothing to train.

    Args:
        module: its parameters on `meta` (`torch.device("meta")`); linear layers and embeddings are replaced in place.
            Buffers that no checkpoint holds must be real.
        source: name and tensor, one at a time; each may be a view of a mapped file, and is let go before the next is
            asked for. Layers that bitsandbytes saved may be among them: they stay as they are if `precision` is
            theirs, and are de-quantized otherwise.
        precision: one of `PRECISIONS`.
        where: what the tensors are read from, for messages.

    Raises:
        Usage: an unknown precision.
        BadInput: a tensor missing, not expected, of another shape or not finite, tied weights that differ, a buffer
            that nobody fills.
        Refused: the memory that is free is not enough.
    """
    if precision not in PRECISIONS:
        raise Usage(explain("teacher precision", " | ".join(PRECISIONS), repr(precision), "choose one"))
    require_memory(needed_bytes(module, precision), precision)
    _require_real_constants(module)
    slots = _prepare(module, precision)
    for name, value in _collected(source, where):
        _accept(slots, name, value, where)
        large = value.shape.numel() >= SMALL_WEIGHTS
        del value  # before the next one is mapped
        if large:
            _give_back_freed_memory()
    missing = sorted({slot.names[0] for slot in slots.values() if not slot.filled})
    if missing:
        slot = slots[missing[0]]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(explain(where, f"tensor {missing[0]} {_size(slot.shape)}{more}", "not there", _AGAIN))
    return module.requires_grad_(False).eval()


def safetensors_source(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a safetensors file, the file mapped anew for each: only one tensor's pages are ever resident.

    Raises:
        BadInput: it cannot be read, or is cut off.
    """
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
        for name in names:
            with safe_open(path, "pt") as file:
                tensor = file.get_tensor(name)
            yield name, tensor
            del tensor
    except (SafetensorError, OSError) as error:
        raise BadInput(
            explain("weights", "a whole safetensors file", f"{path.name}: {error}", "fetch it again")
        ) from error


def parameter_bytes(module: nn.Module) -> dict[str, int]:
    """Bytes of every parameter, by dtype (`uint8` is nf4); `scales`: what belongs to quantized layers beside it."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    for layer in module.modules():
        tensors = [(str(p.dtype).removeprefix("torch."), p) for p in layer.parameters(recurse=False)]
        for kind, tensor in [*tensors, *(("scales", scale) for scale in _scales(layer))]:
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                found[kind] = found.get(kind, 0) + tensor.numel() * tensor.element_size()
    return found


def needed_bytes(module: nn.Module, precision: str) -> int:
    """What the parameters of a module will take, from shapes alone."""
    kinds = _kinds(module, precision)
    unique = {id(p): (p.numel(), kinds[name]) for name, p in module.named_parameters(remove_duplicate=False)}
    return int(sum(count * BYTES_A_WEIGHT[kind] for count, kind in unique.values()))


def require_memory(needed: int, precision: str, available: int | None = None) -> None:
    """Raises Refused where `needed` bytes do not fit into what is available: better than being killed half-way."""
    free = _available_bytes() if available is None else available
    if free is not None and needed + SPARE_BYTES > free:
        expected = f"{(needed + SPARE_BYTES) / 1e6:,.0f} MB of free memory"
        smaller = PRECISIONS[PRECISIONS.index(precision) + 1 :]
        todo = f"--teacher-precision {' or '.join(smaller)}" if smaller else "close other programs, or a larger machine"
        raise Refused(explain(f"the teacher in {precision}", expected, f"{free / 1e6:,.0f} MB", todo))


def _give_back_freed_memory() -> None:
    """glibc keeps what quantizing freed between the layers that stay: 500 MB for SmolVLA in nf4 without this."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def _available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def _scales(layer: nn.Module) -> list[Tensor]:
    if not type(layer).__module__.startswith(("bitsandbytes.", "export.teachers.bnb")):
        return []
    from export.teachers.bnb import state_tensors

    return state_tensors(layer)


def _collected(source: Iterable[tuple[str, Tensor]], where: str) -> Iterator[tuple[str, Tensor | Packed]]:
    """The source as it is, or through bitsandbytes from the first tensor on that looks quantized."""
    tensors = iter(source)
    for name, tensor in tensors:
        if tensor.dtype in (torch.uint8, torch.int8) or re.search(r"\.(SCB|weight\.\w+)$", name):
            from export.teachers.bnb import collect

            yield from collect(_chained(name, tensor, tensors), where)
            return
        yield name, tensor
        del tensor


def _chained(name: str, tensor: Tensor, rest: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    yield name, tensor
    del tensor
    yield from rest


def _require_real_constants(module: nn.Module) -> None:
    kept = module.state_dict().keys()
    for name, buffer in module.named_buffers():
        if buffer.is_meta and name not in kept:
            todo = "make it again after building the module on meta"
            raise BadInput(explain(f"buffer {name}", "values, since no checkpoint holds it", "meta", todo))


def _kinds(module: nn.Module, precision: str) -> dict[str, str]:
    """Precision of every parameter by name. Tied ones go by all their owners: bf16 only where each is a layer."""
    owners: dict[int, set[int]] = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(layer))
    kinds: dict[str, str] = {}
    least: dict[int, str] = {}
    for path, layer in module.named_modules(remove_duplicate=False):
        for name, parameter in layer.named_parameters(recurse=False):
            tied = len(owners[id(parameter)]) > 1
            reducible = name == "weight" and path  # the root has no parent to be replaced in
            kind = precision_of(path, layer, precision, tied) if reducible else "fp32"
            key = f"{path}.{name}".lstrip(".")
            kinds[key] = kind
            if PRECISIONS.index(kind) < PRECISIONS.index(least.setdefault(id(parameter), kind)):
                least[id(parameter)] = kind
    return {
        key: least[id(parameter)] for key, parameter in module.named_parameters(remove_duplicate=False) if key in kinds
    }


def _prepare(module: nn.Module, precision: str) -> dict[str, _Slot]:
    """Replaces the layers that will be reduced by empty ones; a slot for every name that a checkpoint may use."""
    kinds = _kinds(module, precision)
    slots = _slots(module, kinds)
    made: dict[int, nn.Module] = {}
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        kind = kinds.get(f"{path}.weight", "fp32")
        if kind == "fp32" or not path:
            continue
        new = made.setdefault(id(layer), _empty(layer, kind))
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, new)
        for attribute in dict(layer.named_parameters(recurse=False)):
            slot = slots[f"{path}.{attribute}"]
            slot.owners = [(new if owner is layer else owner, name) for owner, name in slot.owners]
    return slots


def _slots(module: nn.Module, kinds: Mapping[str, str]) -> dict[str, _Slot]:
    kept = module.state_dict(keep_vars=True)
    slots: dict[str, _Slot] = {}
    by_tensor: dict[int, _Slot] = {}
    for path, layer in module.named_modules(remove_duplicate=False):
        for attribute, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            name = f"{path}.{attribute}".lstrip(".")
            if name not in kept:
                continue
            fresh = _Slot([], tensor.shape, kinds.get(name), tensor.dtype)
            slot = by_tensor.setdefault(id(tensor), fresh)
            slot.names.append(name)
            if all(owner is not layer or known != attribute for owner, known in slot.owners):
                slot.owners.append((layer, attribute))
            slots[name] = slot
    return slots


def _empty(layer: Any, kind: str) -> nn.Module:
    if isinstance(layer, nn.Embedding):
        return HalfEmbedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, device="meta")
    outputs, inputs = layer.weight.shape
    if kind == "bf16":
        return HalfLinear(inputs, outputs, layer.bias is not None, device="meta")
    from export.teachers.bnb import make_layer

    return make_layer(kind, inputs, outputs, layer.bias is not None)


def _accept(slots: Mapping[str, _Slot], name: str, value: Tensor | Packed, where: str) -> None:
    slot = slots.get(name)
    if slot is None:
        raise BadInput(explain(f"{where}: {name}", "no such tensor", f"one of {_size(value.shape)}", _AGAIN))
    if slot.shape != value.shape:
        raise BadInput(explain(f"{where}: {name}", _size(slot.shape), _size(value.shape), _AGAIN))
    if isinstance(value, Tensor):
        _require_finite(name, value, where)
    if len(slot.names) > 1 and _is_second(slot, name, value, where):
        return
    _fill(slot, value)
    slot.filled = True


def _require_finite(name: str, value: Tensor, where: str) -> None:
    if value.is_floating_point() and value.numel() and not torch.stack(torch.aminmax(value)).isfinite().all():
        raise BadInput(explain(f"{where}: {name}", "finite numbers", "NaN or infinity", "use another checkpoint"))


def _is_second(slot: _Slot, name: str, value: Tensor | Packed, where: str) -> bool:
    """Whether a tied tensor came before under another name. Raises BadInput: it was another one."""
    data = value if isinstance(value, Tensor) else value.codes
    raw: Any = data.contiguous().reshape(-1).view(torch.uint8).numpy()
    sha256 = hashlib.sha256(raw).hexdigest()
    if slot.filled and sha256 != slot.sha256:
        others = " and ".join(other for other in slot.names if other != name)
        raise BadInput(explain(f"{where}: {name}", f"the same as {others}, tied to it", "another tensor", _AGAIN))
    slot.sha256 = sha256
    return slot.filled


def _fill(slot: _Slot, value: Tensor | Packed) -> None:
    if slot.precision in ("int8", "nf4"):
        from export.teachers.bnb import Packed, quantise

        packed = value if isinstance(value, Packed) and value.kind == slot.precision else None
        packed = packed or quantise(_plain(value), slot.precision)
        for owner, _ in slot.owners:
            owner.install(packed)  # type: ignore[operator]
        return
    plain = _plain(value)
    if slot.precision is None:
        for owner, name in slot.owners:
            owner._buffers[name] = plain.to(slot.dtype, copy=True)
        return
    dtype = torch.bfloat16 if slot.precision == "bf16" else torch.float32
    parameter = nn.Parameter(plain.to(dtype, copy=True), requires_grad=False)
    for owner, name in slot.owners:
        owner._parameters[name] = parameter


def _plain(value: Tensor | Packed) -> Tensor:
    return value if isinstance(value, Tensor) else value.dequantise()


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a scalar"
