"""The contestants of the step benchmark train the same network and measure the same values."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.loops import (
    AuthorsLoop,
    BareLoop,
    ReplayLoop,
    SyntheticImages,
    weights_and_gradients,
)
from trainables.config import LearningRate, RunConfig
from trainables.models.contract import ModelConfig
from trainables.models.mlp import MLP
from trainables.models.resnet import ResNet18
from trainables.optimizers import Momentum

CPU = torch.device("cpu")
NUM_STEPS = 3


@pytest.fixture(params=[MLP(hidden=(20,)), ResNet18(width=1 / 16)], ids=["mlp", "channels_last"])
def config(request: pytest.FixtureRequest) -> RunConfig:
    model: ModelConfig = request.param
    return RunConfig(
        data=SyntheticImages(),
        model=model,
        optimizer=Momentum(weight_decay=1e-6),
        learning_rate=LearningRate(base=0.01),
        batch_size=8,
    )


def test_all_loops_train_alike(config: RunConfig) -> None:
    bare, authors, replay = BareLoop(config, CPU), AuthorsLoop(config, CPU), ReplayLoop(config, CPU)
    bare.advance(NUM_STEPS)
    authors.advance(NUM_STEPS)
    replay.advance(NUM_STEPS, [replay.measurement(("path", "update"))])
    expected = dict(bare.model.named_parameters())
    for other in (authors.model, replay.trajectory.model):
        assert all(torch.equal(p, expected[name]) for name, p in other.named_parameters())
    first = BareLoop(config, CPU).model
    assert any(not torch.equal(p, expected[name]) for name, p in first.named_parameters())


def test_the_authors_way_measures_what_the_probes_measure(config: RunConfig) -> None:
    authors, replay = AuthorsLoop(config, CPU), ReplayLoop(config, CPU)
    measurement = replay.measurement(("path", "update", "weight_decay"))
    authors.advance(NUM_STEPS)
    replay.advance(NUM_STEPS, [measurement])
    steps = measurement.tables()["steps"]
    same = {
        "distance": "distance",
        "gradient": "gradient_norm",
        "inner": "inner_product",
        "decayed_norm": "decayed_gradient_norm",
        "decayed_inner": "decayed_inner_product",
        "update_norm": "update_norm",
        "update_inner": "update_inner_product",
        "loss": "loss",
    }
    for theirs, ours in same.items():
        values = torch.tensor([row[theirs] for row in authors.rows], dtype=torch.float64)
        torch.testing.assert_close(values, steps[ours], rtol=1e-4, atol=0.0)


def test_the_vectors_stand_in_memory_order() -> None:
    model = torch.nn.Conv2d(2, 3, 2, bias=False).to(memory_format=torch.channels_last)
    weights, gradients = weights_and_gradients(model)
    assert torch.equal(weights, model.weight.detach().permute(0, 2, 3, 1).reshape(-1))
    assert torch.equal(gradients, torch.zeros(24))
