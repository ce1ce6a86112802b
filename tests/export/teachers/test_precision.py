"""Teachers in fewer bits: what is reduced, what it costs, what is refused, and the way back to plain layers."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from edgevla.errors import BadInput, Refused, Usage
from export.teachers.bnb import Int8Linear, Nf4Linear, Packed, dequantise, quantise
from export.teachers.halves import HalfEmbedding, HalfLinear
from export.teachers.precision import (
    BYTES_A_WEIGHT,
    PRECISIONS,
    load_layerwise,
    needed_bytes,
    parameter_bytes,
    precision_of,
    require_memory,
    safetensors_source,
)

WIDTH, ODD, WORDS = 256, 720, 500  # 720 is no multiple of nf4's block of 64: the width of SmolVLA's expert


class TinyPolicy(nn.Module):
    """Every kind of layer that a teacher has: words, an odd width, a norm, a small head, counters, constants."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.up = nn.Linear(WIDTH, ODD)
        self.down = nn.Linear(ODD, WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.action_out = nn.Linear(WIDTH, WIDTH)
        self.small = nn.Linear(WIDTH, 7)
        self.register_buffer("steps", torch.tensor(3))
        with torch.device("cpu"):
            self.register_buffer("angles", torch.linspace(0, 1, WIDTH), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.angles
        x = self.norm(x + self.down(functional.gelu(self.up(x))))
        return torch.as_tensor(self.small(functional.silu(self.action_out(x))))


TOKENS = torch.arange(40).reshape(1, 5, 8) * 11 % WORDS  # of rank 3: the layers see rank 4


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return TinyPolicy().state_dict()


@pytest.fixture(scope="module")
def expected(weights: dict[str, Tensor]) -> Tensor:
    return answer(load(weights, "fp32"))


def load(weights: dict[str, Tensor], precision: str) -> nn.Module:
    with torch.device("meta"):
        module = TinyPolicy()
    return load_layerwise(module, iter(weights.items()), precision, "tiny.safetensors")


def answer(module: nn.Module) -> Tensor:
    with torch.inference_mode():
        return torch.as_tensor(module(TOKENS))


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def without(weights: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if name not in names}


def test_fp32_gives_back_the_weights_bit_by_bit(weights: dict[str, Tensor]) -> None:
    loaded = load(weights, "fp32").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(("precision", "most"), [("bf16", 0.01), ("int8", 0.03), ("nf4", 0.15)])
def test_answers_stay_close_to_fp32(weights: dict[str, Tensor], expected: Tensor, precision: str, most: float) -> None:
    assert 0 < error(answer(load(weights, precision)), expected) < most


def test_linear_layers_are_reduced_and_sensitive_ones_are_not(weights: dict[str, Tensor]) -> None:
    module = load(weights, "nf4")
    types = {name: type(layer) for name, layer in module.named_children()}
    assert types == {
        "embed": HalfEmbedding, "up": Nf4Linear, "down": Nf4Linear, "norm": nn.LayerNorm,
        "action_out": nn.Linear, "small": nn.Linear,
    }  # fmt: skip
    assert all(not p.requires_grad for p in module.parameters())
    assert not module.training


def test_a_large_head_is_half_and_a_small_layer_is_whole() -> None:
    with torch.device("meta"):
        head, small = nn.Linear(960, 49280), nn.Linear(64, 64)
        large = nn.Linear(1024, 1024)
    assert precision_of("vlm.lm_head", head, "nf4") == "bf16"
    assert precision_of("decoder.state_proj", large, "int8") == "fp32"
    assert precision_of("layers.0.mlp", large, "int8") == "int8"
    assert precision_of("layers.0.mlp", small, "int8") == "fp32"
    assert precision_of("attention.out_proj", nn.MultiheadAttention(256, 4).out_proj, "nf4") == "fp32"


def test_bytes_are_those_of_the_table(weights: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        plan = {precision: needed_bytes(TinyPolicy(), precision) for precision in PRECISIONS}
    for precision in PRECISIONS:
        assert sum(parameter_bytes(load(weights, precision)).values()) == pytest.approx(plan[precision], rel=0.02)
    matrices = quantise(torch.randn(1024, 1024), "nf4")
    held = matrices.codes.numel() + matrices.state.absmax.numel() + 4 * matrices.state.state2.absmax.numel()
    assert held / 1024**2 == pytest.approx(BYTES_A_WEIGHT["nf4"], abs=2e-3)


def test_bytes_are_the_same_after_a_forward(weights: dict[str, Tensor]) -> None:
    for precision in PRECISIONS:
        module = load(weights, precision)
        before = parameter_bytes(module)
        answer(module)
        assert parameter_bytes(module) == before


@pytest.mark.parametrize("width", [ODD, WIDTH, 96])
def test_nf4_is_right_where_the_width_is_no_multiple_of_the_block(width: int) -> None:
    weight = torch.randn(512, width, generator=torch.Generator().manual_seed(1))
    assert error(quantise(weight, "nf4").dequantise(), weight) == pytest.approx(0.092, abs=0.003)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_matrix_quantized_in_chunks_has_the_codes_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(300, ODD, generator=torch.Generator().manual_seed(2))
    whole = quantise(weight, kind)
    monkeypatch.setattr("export.teachers.bnb.CHUNK_WEIGHTS", 64 * 100)
    chunked = quantise(weight, kind)
    assert torch.equal(whole.codes, chunked.codes)
    assert torch.equal(whole.dequantise(), chunked.dequantise())


def test_weights_tied_under_two_names_stay_one_tensor() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
            self.head.weight = self.embed.weight

    def load_tied(source: dict[str, Tensor]) -> nn.Module:
        with torch.device("meta"):
            module = Tied()
        return load_layerwise(module, iter(source.items()), "nf4")

    table = torch.randn(WORDS, WIDTH)
    for source in ({"embed.weight": table}, {"head.weight": table}, {"embed.weight": table, "head.weight": table}):
        module = load_tied(source)
        assert module.embed.weight is module.head.weight
        assert isinstance(module.head, HalfLinear)
        plain = dequantise(module)
        assert plain.embed.weight is plain.head.weight
    with pytest.raises(BadInput, match=r"(?s)head\.weight.*same as embed\.weight"):
        load_tied({"embed.weight": table, "head.weight": table + 1})


def test_one_layer_at_two_places_stays_one_layer() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(WIDTH, WIDTH)
            self.second = self.first

    with torch.device("meta"):
        module = Shared()
    weights = {"first.weight": torch.randn(WIDTH, WIDTH), "first.bias": torch.randn(WIDTH)}
    load_layerwise(module, iter(weights.items()), "nf4")
    assert module.first is module.second
    assert isinstance(module.first, Nf4Linear)


SPOILS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "missing": (lambda w: without(w, "up.bias", "small.bias"), r"small\.bias 7 and 1 more.*not there"),
    "missing buffer": (lambda w: without(w, "steps"), r"steps a scalar.*not there"),
    "unexpected": (lambda w: {**w, "extra.weight": torch.zeros(2, 3)}, r"extra\.weight.*no such tensor.*2x3"),
    "wrong shape": (lambda w: {**w, "up.weight": torch.zeros(3, 3)}, r"up\.weight.*720x256.*3x3"),
    "not finite": (lambda w: {**w, "norm.bias": torch.full((WIDTH,), torch.nan)}, r"norm\.bias.*finite"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_wrong_tensor_is_named_with_its_file(weights: dict[str, Tensor], spoil: str) -> None:
    change, sentence = SPOILS[spoil]
    with pytest.raises(BadInput, match=r"tiny\.safetensors") as caught:
        load(change(weights), "nf4")
    assert re.search(sentence, " ".join(str(caught.value).split()))


def test_a_constant_left_on_meta_is_refused_by_name() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("inv_freq", torch.ones(4), persistent=False)

    with torch.device("meta"):
        module = Rotary()
    with pytest.raises(BadInput, match="inv_freq"):
        load_layerwise(module, iter([]), "nf4")


def test_an_unknown_precision_is_a_usage_error(weights: dict[str, Tensor]) -> None:
    with pytest.raises(Usage, match=r"fp32 \| bf16 \| int8 \| nf4"):
        load(weights, "fp8")


def test_a_teacher_too_large_for_the_machine_is_refused_before_it_is_loaded() -> None:
    with pytest.raises(Refused, match=r"teacher in bf16(.|\n)*--teacher-precision int8 or nf4"):
        require_memory(4 << 30, "bf16", available=2 << 30)
    require_memory(1 << 30, "bf16", available=2 << 30)


def test_a_truncated_file_is_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        list(safetensors_source(path))


def resident_bytes_of(path: Path) -> int:
    """Pages of a mapped file that are resident in this process."""
    resident, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            resident += int(line.split()[1]) * 1024
    return resident


def test_only_the_pages_of_one_tensor_are_ever_resident(
    tmp_path: Path, weights: dict[str, Tensor], expected: Tensor
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    with torch.device("meta"):
        module = TinyPolicy()
    resident: list[int] = []

    def watched() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in safetensors_source(path):
            yield name, tensor
            del tensor
            resident.append(resident_bytes_of(path))

    assert torch.equal(answer(load_layerwise(module, watched(), "fp32")), expected)
    assert 0 < max(resident) < 0.6 * path.stat().st_size  # the largest is 0.33 of it, and pages come in groups


@pytest.fixture(scope="module", params=["nf4", "int8"])
def saved(request: pytest.FixtureRequest, weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of bitsandbytes' own layers, as its `state_dict` says it."""
    module = load(weights, request.param)
    path = tmp_path_factory.mktemp(request.param) / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)
    return path


def test_a_bitsandbytes_checkpoint_loads_as_it_is(saved: Path, weights: dict[str, Tensor]) -> None:
    kind = "nf4" if saved.parent.name.startswith("nf4") else "int8"
    assert torch.equal(answer(load(load_file(saved), kind)), answer(load(weights, kind)))


def test_a_bitsandbytes_checkpoint_in_any_order_is_dequantised_when_fp32_is_asked_for(
    saved: Path, weights: dict[str, Tensor]
) -> None:
    kind = "nf4" if saved.parent.name.startswith("nf4") else "int8"
    backwards = dict(reversed(load_file(saved).items()))
    plain = load(backwards, "fp32")
    assert type(plain.up) is nn.Linear
    assert torch.allclose(answer(plain), answer(dequantise(load(weights, kind))), atol=1e-6)


def test_a_bitsandbytes_layer_that_does_not_fit_itself_is_named(saved: Path) -> None:
    parts = load_file(saved)
    name = "up.weight.absmax" if "up.weight.absmax" in parts else "up.SCB"
    with pytest.raises(BadInput, match="quantized layer up"):
        load({**parts, name: parts[name][:-1].clone()}, "fp32")
    with pytest.raises(BadInput, match="quantized layer up"):
        load(without(parts, name), "fp32")


@pytest.mark.parametrize("precision", ["bf16", "int8", "nf4"])
def test_a_dequantised_teacher_answers_the_same_and_exports(weights: dict[str, Tensor], precision: str) -> None:
    reduced = load(weights, precision)
    before = answer(reduced)
    plain = dequantise(copy.deepcopy(reduced)).eval()
    assert {type(layer) for layer in plain.children()} == {nn.Embedding, nn.Linear, nn.LayerNorm}
    assert error(answer(plain), before) < (0.02 if precision == "int8" else 0.01)  # int8: activations are rounded too
    buffer = io.BytesIO()
    program = torch.onnx.export(plain, (TOKENS,), dynamo=True, opset_version=20, verbose=False)
    program.save(buffer)
    session = ort.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: TOKENS.numpy()})
    assert torch.allclose(torch.from_numpy(got), answer(plain), atol=1e-4)


def test_layers_made_by_transformers_are_dequantised_even_after_a_forward() -> None:
    import bitsandbytes

    torch.manual_seed(3)
    weight = torch.randn(128, 128)
    layer = bitsandbytes.nn.Linear4bit(128, 128, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    layer.weight = bitsandbytes.nn.Params4bit(weight.half(), quant_type="nf4", module=layer)
    layer = layer.to("cpu").eval()
    x = torch.randn(3, 128)
    with torch.inference_mode():
        theirs = layer(x)  # on a CPU with AVX512-BF16 this repacks the codes
        plain = dequantise(nn.Sequential(layer))
        assert type(plain[0]) is nn.Linear
        assert plain[0].weight.dtype == torch.float32
        assert error(plain(x), theirs) < 0.01
    assert error(plain[0].weight, weight) == pytest.approx(0.092, abs=0.01)


def test_int8_takes_inputs_of_any_rank() -> None:
    weight = torch.randn(64, 128)
    layer = Int8Linear(128, 64, bias=False).eval()
    layer.install(quantise(weight, "int8"))
    x = torch.randn(2, 3, 4, 128)
    with torch.inference_mode():
        assert error(layer(x), x @ weight.T) < 0.02
        assert torch.allclose(layer(x)[1, 2], layer(x[1, 2]), atol=1e-6)


def test_packed_int8_is_codes_times_the_row_maximum() -> None:
    packed = Packed("int8", torch.tensor([[127, -64]], dtype=torch.int8), torch.tensor([2.0]))
    assert torch.allclose(packed.dequantise(), torch.tensor([[2.0, -64 * 2 / 127]]))


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_checkpoint_quantized_and_saved_by_transformers_is_read(tmp_path: Path, kind: str) -> None:
    import transformers

    torch.manual_seed(4)
    sizes = {"hidden_size": 256, "intermediate_size": 320, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = transformers.LlamaModel(transformers.LlamaConfig(vocab_size=100, **sizes)).half()
    model.save_pretrained(tmp_path / "float")
    how = transformers.BitsAndBytesConfig(
        load_in_4bit=kind == "nf4", load_in_8bit=kind == "int8",
        bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    theirs = transformers.AutoModel.from_pretrained(
        tmp_path / "float", quantization_config=how, dtype=torch.float32, device_map={"": "cpu"}
    )
    theirs.save_pretrained(tmp_path / "quantized")
    path = tmp_path / "quantized" / "model.safetensors"
    layer = "layers.1.mlp.down_proj"  # 320 inputs: five blocks of 64
    assert load_file(path)[f"{layer}.weight"].dtype in (torch.uint8, torch.int8)
    ours = transformers.LlamaModel(model.config)
    load_layerwise(ours, safetensors_source(path), "fp32", path.name)
    exact = model.float().state_dict()[f"{layer}.weight"]
    assert error(ours.get_submodule(layer).weight, exact) < (0.1 if kind == "nf4" else 0.01)
    tokens = torch.arange(12)[None]
    with torch.inference_mode():
        assert error(ours(tokens).last_hidden_state, theirs(tokens).last_hidden_state) < 0.03
        plain = dequantise(theirs)
        assert error(ours(tokens).last_hidden_state, plain(tokens).last_hidden_state.float()) < 0.01
