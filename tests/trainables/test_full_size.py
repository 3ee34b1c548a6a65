"""The networks of the papers at full size, once each: two steps, replayed bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainables.config import RunConfig
from trainables.job import Progress
from trainables.models.contract import ModelConfig
from trainables.models.mobilenet import MobileNetV2
from trainables.models.resnet import ResNet18, ResNet34, ResNet50, ResNet152
from trainables.models.vgg import VGG11, VGG16, VGG19
from trainables.store import Store, read_table

MODELS: dict[str, ModelConfig] = {
    "resnet18 at triple width": ResNet18(width=3),
    "resnet34": ResNet34(),
    "resnet50 at double width": ResNet50(width=2),
    "resnet152 at half width": ResNet152(width=0.5),
    "resnet152": ResNet152(),
    "resnet18 without skips and norm": ResNet18(skips=False, norm="none"),
    "resnet18 with group norm": ResNet18(norm="group"),
    "vgg11": VGG11(),
    "vgg16 with batch norm": VGG16(batch_norm=True),
    "vgg19 with batch norm": VGG19(batch_norm=True),
    "vgg11 with the full head": VGG11(head="full"),
    "mobilenet_v2": MobileNetV2(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_full_size_network_replays_bit_for_bit(
    name: str, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    data: dict[str, Any] = {"name": "digits", "padded_size": 32}
    config = RunConfig(
        data=data | {"train_examples": 16, "validation_examples": 8},  # type: ignore[arg-type]
        model=MODELS[name],
        batch_size=8,
        budget={"steps": 2},  # type: ignore[arg-type]
    )
    finish(store, a=config)
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert (manifest["status"], manifest["replay_exact"]) == ("done", True)
    steps = read_table(store.run("a").path / "steps.parquet")
    assert steps["distance"].gt(0).all()
    assert steps["gradient_norm"].gt(0).all()
