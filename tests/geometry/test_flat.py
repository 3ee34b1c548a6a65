"""FlatParameters: views of two buffers that train bit for bit like the tensors they replace."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geometry.flat import FlatParameters, Segment, parameters_without_gradient
from geometry.reductions import ROW

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Tied(nn.Module):
    """An embedding that is the output layer too, with layer norm and attention between."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.output = nn.Linear(8, 11)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        hidden = hidden + self.attention(hidden, hidden, hidden, need_weights=False)[0]
        logits: Tensor = self.output(self.norm(hidden))
        return logits.flatten(0, 1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 10))


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Conv2d(7, 12, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )


def inputs(name: str, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        if name == "tied":
            x = torch.randint(0, 11, (6, 5), generator=generator)
            y = torch.randint(0, 11, (30,), generator=generator)
        else:
            shape = (16, 30) if name == "mlp" else (16, 3, 8, 8)
            x = torch.randn(shape, generator=generator)
            y = torch.randint(0, 10, (16,), generator=generator)
        yield x.to(device), y.to(device)


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "conv": conv, "tied": Tied}

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.01),
}


def build(name: str, device: str = "cpu") -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().to(device)


def train(
    module: nn.Module,
    name: str,
    optimizer: torch.optim.Optimizer,
    zero: Callable[[], object],
    *,
    bf16: bool = False,
) -> None:
    device = next(module.parameters()).device.type
    for _, (x, y) in zip(range(8), inputs(name, device), strict=False):
        zero()
        with torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext():
            loss = F.cross_entropy(module(x), y)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("name", "channels_last", "bf16"),
    [
        ("mlp", False, False),
        ("conv", False, False),
        ("conv", True, False),
        ("tied", False, False),
        ("mlp", False, True),
        ("conv", True, True),
    ],
)
@pytest.mark.parametrize("device", DEVICES)
def test_stepping_the_flat_tensor_is_bitwise_stepping_each_tensor(
    device: str, name: str, channels_last: bool, bf16: bool, optimizer_name: str
) -> None:
    plain = build(name, device)
    if channels_last:
        plain = plain.to(memory_format=torch.channels_last)
    flattened = copy.deepcopy(plain)
    start = copy.deepcopy(plain)
    flat = FlatParameters(flattened, channels_last=channels_last)
    make = OPTIMIZERS[optimizer_name]
    with torch.backends.cudnn.flags(deterministic=True):
        by_tensor = make(list(plain.parameters()))
        train(plain, name, by_tensor, by_tensor.zero_grad, bf16=bf16)
        train(flattened, name, make([flat.parameter]), flat.gradients.zero_, bf16=bf16)
    flat.check()
    for (label, left), right, before in zip(
        plain.state_dict().items(),
        flattened.state_dict().values(),
        start.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(left, right), label
        assert not torch.equal(left, before), f"{label} must have moved"
    assert padding(flat, flat.weights).eq(0).all()
    assert padding(flat, flat.gradients).eq(0).all()


def padding(flat: FlatParameters, buffer: Tensor) -> Tensor:
    used = torch.zeros(flat.layout.size, dtype=torch.bool, device=buffer.device)
    for segment in flat.layout.segments:
        used[segment.offset : segment.offset + segment.numel] = True
    return buffer[~used]


@pytest.mark.parametrize("name", MODELS)
def test_flattening_changes_no_value_and_keeps_the_order(name: str) -> None:
    module = build(name)
    before = {label: p.detach().clone() for label, p in module.named_parameters()}
    flat = FlatParameters(module)
    assert flat.layout.labels == tuple(before)
    assert flat.layout.num_parameters == sum(p.numel() for p in before.values())
    assert len(flat.weights) == len(flat.gradients) == flat.layout.size
    for segment, (label, parameter) in zip(
        flat.layout.segments, module.named_parameters(), strict=True
    ):
        assert torch.equal(parameter, before[label])
        assert torch.equal(segment.view(flat.weights), before[label])
        assert segment.offset % ROW == 0


def test_offsets_are_rows_without_gaps_or_overlaps() -> None:
    segments = FlatParameters(mlp()).layout.segments
    # 1200, 40, 400 and 10 weights in rows of 256.
    assert [segment.num_rows for segment in segments] == [5, 1, 2, 1]
    assert [segment.offset for segment in segments] == [0, 5 * 256, 6 * 256, 8 * 256]
    assert FlatParameters(mlp()).layout.size == 9 * 256


def test_a_write_to_either_side_is_seen_on_the_other() -> None:
    module = mlp()
    flat = FlatParameters(module)
    flat.weights.fill_(2.0)
    assert all(bool((p == 2).all()) for p in module.parameters())
    module(torch.ones(1, 30)).sum().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert sum(float(g.sum()) for g in gradients) == float(flat.gradients.sum()) != 0
    assert flat.parameter.grad is not None
    assert flat.parameter.grad.data_ptr() == flat.gradients.data_ptr()


def test_sums_over_the_buffers_are_sums_over_the_parameters() -> None:
    """Weights and gradients lie in one order: else their inner product is another."""
    module = build("conv")
    flat = FlatParameters(module, channels_last=True)
    x, y = next(inputs("conv", "cpu"))
    F.cross_entropy(module(x), y).backward()
    by_tensor = sum((p * p.grad).sum() for p in module.parameters() if p.grad is not None)
    torch.testing.assert_close(flat.weights @ flat.gradients, by_tensor)


def test_channels_last_views_are_channels_last_and_others_are_not() -> None:
    module = build("conv")
    FlatParameters(module, channels_last=True)
    for label, parameter in module.named_parameters():
        layout = torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
        assert parameter.is_contiguous(memory_format=layout), label
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride(), label


def test_tied_weights_count_once() -> None:
    module = build("tied")
    flat = FlatParameters(module)
    assert isinstance(module, Tied)
    assert "output.weight" not in flat.layout.labels
    assert flat.layout.num_parameters == 11 * 8 + (3 * 8 * 8 + 3 * 8) + (8 * 8 + 8) + 16 + 11
    assert module.output.weight is module.embedding.weight


def test_buffers_are_no_parameters() -> None:
    labels = FlatParameters(build("conv")).layout.labels
    assert labels == ("0.weight", "1.weight", "1.bias", "3.weight", "3.bias", "6.weight", "6.bias")


def test_frozen_and_unused_parameters_stay_outside_and_do_not_move() -> None:
    module = nn.ModuleDict({"used": nn.Linear(4, 4), "idle": nn.Linear(4, 4)})
    module["used"].bias.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    module["used"](torch.ones(1, 4)).sum().backward()
    idle = parameters_without_gradient(module)
    assert idle == {"used.bias", "idle.weight", "idle.bias"}
    flat = FlatParameters(module, without=idle)
    assert flat.layout.labels == ("used.weight",)
    OPTIMIZERS["adam"]([flat.parameter]).step()
    after = module.state_dict()
    assert not torch.equal(after["used.weight"], before["used.weight"])
    for label in sorted(idle):
        assert torch.equal(after[label], before[label]), label


def test_a_module_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no trainable parameter that receives a gradient"):
        FlatParameters(nn.Linear(2, 2).requires_grad_(False))


def test_groups_are_weights_biases_and_normalisation() -> None:
    groups = {s.name: s.group for s in FlatParameters(build("tied")).layout.segments}
    assert groups == {
        "embedding.weight": "weights",
        "attention.in_proj_weight": "weights",
        "attention.in_proj_bias": "biases",
        "attention.out_proj.weight": "weights",
        "attention.out_proj.bias": "biases",
        "norm.weight": "normalisation",
        "norm.bias": "normalisation",
        "output.bias": "biases",
    }
    batch_norm = FlatParameters(build("conv")).layout.segments[1:3]
    assert {segment.group for segment in batch_norm} == {"normalisation"}


def test_metadata_restores_the_layout() -> None:
    layout = FlatParameters(build("conv"), channels_last=True).layout
    stored = json.loads(layout.metadata()["layout"])
    restored = tuple(Segment(**{**entry, "shape": tuple(entry["shape"])}) for entry in stored)
    assert restored == layout.segments


BREAKS: dict[str, Callable[[FlatParameters, nn.Module], object]] = {
    "gradients set to None": lambda flat, module: module.zero_grad(),
    "another precision": lambda flat, module: module.double(),
    "assigned state": lambda flat, module: module.load_state_dict(
        copy.deepcopy(module.state_dict()), assign=True
    ),
    "the optimizer's gradient set to None": lambda flat, module: torch.optim.SGD(
        [flat.parameter]
    ).zero_grad(),
}


@pytest.mark.parametrize("how", BREAKS)
def test_check_finds_what_has_left_the_buffers(how: str) -> None:
    module = mlp()
    flat = FlatParameters(module)
    flat.check()
    BREAKS[how](flat, module)
    with pytest.raises(RuntimeError, match="no longer lives in the flat buffers"):
        flat.check()


def test_loading_a_state_in_place_keeps_the_views() -> None:
    module, other = mlp(), mlp()
    flat = FlatParameters(module)
    module.load_state_dict(other.state_dict())
    flat.check()
    assert torch.equal(flat.layout.segments[0].view(flat.weights), other.state_dict()["0.weight"])
