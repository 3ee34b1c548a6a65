"""A step is a pure function of (state, t), and equals the plain loop that a user would write."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import SEED_NAMES, RunConfig
from trainables.models.contract import ModelConfig
from trainables.models.registry import MODELS
from trainables.randomness import reseed_default, seeded
from trainables.trajectory import Trajectory

Build = Callable[..., Trajectory]
Tiny = Callable[..., RunConfig]


def bits(trajectory: Trajectory) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trajectory.state().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def test_trained_again_it_is_bitwise_the_same(stateful: RunConfig, trajectory: Build) -> None:
    first, again = trajectory(stateful), trajectory(stateful)
    first.advance(7)
    torch.rand(5)  # whatever was drawn in between
    again.advance(7)
    assert_same(bits(first), bits(again))
    assert first.fingerprint() == again.fingerprint()


def test_restored_in_the_middle_it_ends_bitwise_the_same(
    stateful: RunConfig, trajectory: Build
) -> None:
    whole, resumed = trajectory(stateful), trajectory(stateful)
    whole.advance(4)
    middle = bits(whole)
    whole.advance(7)
    resumed.load(middle, 4)
    resumed.advance(7)
    assert_same(bits(whole), bits(resumed))


def test_evaluating_saving_and_looking_disturb_nothing(
    stateful: RunConfig, trajectory: Build
) -> None:
    quiet, watched = trajectory(stateful), trajectory(stateful)
    quiet.advance(7)
    for step in range(1, 8):
        watched.advance(step)
        before = bits(watched)
        generator = torch.get_rng_state()
        for split in watched.task.splits:
            watched.evaluate(split)
        watched.fingerprint()
        assert_same(before, bits(watched))
        assert torch.equal(generator, torch.get_rng_state())
        assert watched.model.training
        watched.task.minibatch(8 - step)  # any step's minibatch can be asked for at any time
    assert_same(bits(quiet), bits(watched))


def test_every_step_moves_the_weights(stateful: RunConfig, trajectory: Build) -> None:
    built = trajectory(stateful)
    before = built.fingerprint()
    for step in range(1, 4):
        moves = built.learning_rate(step - 1) > 0
        built.advance(step)
        assert (built.fingerprint() != before) == moves
        before = built.fingerprint()


def test_equals_the_plain_per_tensor_loop(stateful: RunConfig, trajectory: Build) -> None:
    built = trajectory(stateful)
    with seeded(stateful.seed_for("init"), "init"):
        model = built.task.build_model()
    if stateful.channels_last():
        model = model.to(memory_format=torch.channels_last)
    optimizers = [stateful.optimizer.build(parameter) for parameter in model.parameters()]
    bf16 = stateful.precision == "bf16"
    for step in range(7):
        images, labels = built.task.minibatch(step)
        reseed_default(stateful.seed_for("dropout"), step, torch.device("cpu"))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images).float(), labels)
        for parameter in model.parameters():
            parameter.grad = None
        loss.backward()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = built.learning_rate(step)
            optimizer.step()
    built.advance(7)
    assert_same(dict(model.state_dict()), dict(built.model.state_dict()))


def test_on_two_threads_it_is_bitwise_the_same_too(tiny: Tiny, trajectory: Build) -> None:
    config = tiny(model={"name": "mlp", "hidden": [300, 300], "dropout": 0.1}, optimizer="adam")
    first, again = trajectory(config, num_threads=2), trajectory(config, num_threads=2)
    assert torch.get_num_threads() == 2
    first.advance(5)
    again.advance(5)
    assert_same(bits(first), bits(again))


@pytest.mark.parametrize("name", SEED_NAMES)
def test_each_named_seed_changes_the_weights_and_nothing_else(
    tiny: Tiny, trajectory: Build, name: str
) -> None:
    options: dict[str, Any] = {
        "data": {"name": "digits", "train_examples": 96, "crop_padding": 1, "flip": True},
        "model": {"name": "mlp", "hidden": [8], "dropout": 0.3},
    }
    base, other = tiny(**options), tiny(**options, seeds={name: 5})
    left, right = trajectory(base), trajectory(other)
    assert torch.equal(left.flat.weights, right.flat.weights) == (name != "init")
    left_batch, right_batch = left.task.minibatch(0), right.task.minibatch(0)
    assert torch.equal(left_batch[1], right_batch[1]) == (name != "data_order")
    same_images = torch.equal(left_batch[0], right_batch[0])
    assert same_images == (name not in ("data_order", "augmentation"))
    left.advance(4)
    right.advance(4)
    assert left.fingerprint() != right.fingerprint()


def test_another_seed_is_another_training(tiny: Tiny, trajectory: Build) -> None:
    fingerprints = set()
    for seed in (0, 1, 2**32, 2**40):
        built = trajectory(tiny(seed=seed))
        built.advance(2)
        fingerprints.add(built.fingerprint())
    assert len(fingerprints) == 4


def test_dropout_masks_change_from_step_to_step(tiny: Tiny, trajectory: Build) -> None:
    config = tiny(model={"name": "mlp", "hidden": [64], "dropout": 0.5}, learning_rate=1e-12)
    built = trajectory(config)
    losses = []
    for step in (0, 3, 0):  # steps 0 and 3 of a data set that has one minibatch per epoch
        reseed_default(config.seed_for("dropout"), step, torch.device("cpu"))
        losses.append(built.task.loss(built.model, 0).item())
    assert losses[0] == losses[2] != losses[1]


def test_an_epoch_shows_every_example_once_in_another_order_each_time(
    tiny: Tiny, trajectory: Build
) -> None:
    built = trajectory(tiny())
    epochs = [
        torch.cat([built.task.minibatch(step)[0] for step in range(start, start + 3)])
        for start in (0, 3)
    ]
    assert not torch.equal(*epochs)
    rows = [sorted(map(tuple, epoch.flatten(1).tolist())) for epoch in epochs]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 96


class PartlyTrained(nn.Module):
    """A network with a frozen layer, a layer that the loss never sees, and a layer that learns."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.frozen = nn.Linear(num_inputs, 6).requires_grad_(False)
        self.unused = nn.Linear(4, 4)
        self.learns = nn.Linear(6, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.learns(self.frozen(images.flatten(1)).relu())
        return outputs


class PartlyTrainedConfig(ModelConfig):
    """The options of `PartlyTrained`."""

    name: ClassVar[str] = "partly_trained"

    def build(self, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        return PartlyTrained(torch.Size(input_shape).numel(), num_outputs)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_frozen_and_unused_parameters_stay_where_they_are(
    tiny: Tiny, trajectory: Build, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setitem(MODELS, "partly_trained", PartlyTrainedConfig)
    config = tiny(model="partly_trained", optimizer={"name": optimizer, "weight_decay": 0.1})
    built = trajectory(config)
    assert built.flat.layout.labels == ("learns.weight", "learns.bias")
    before = copy.deepcopy(built.model.state_dict())
    built.advance(5)
    for name, value in built.model.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith("learns")), name


@pytest.mark.parametrize("spoil", ["zero_grad", "assign"])
def test_a_step_that_breaks_the_flat_views_is_found_at_the_epoch_end(
    tiny: Tiny, trajectory: Build, spoil: str
) -> None:
    built = trajectory(tiny())
    if spoil == "zero_grad":
        built.model.zero_grad(set_to_none=True)
    else:
        built.model.load_state_dict(built.model.state_dict(), assign=True)
        with torch.no_grad():
            next(built.model.parameters()).data = torch.zeros(8, 64)
    with pytest.raises(RuntimeError, match="no longer lives in the flat buffers"):
        built.fingerprint()


def test_the_fingerprint_sees_one_bit(tiny: Tiny, trajectory: Build) -> None:
    built = trajectory(tiny())
    before = built.fingerprint()
    weights = built.flat.weights
    weights[3] = torch.nextafter(weights[3], torch.tensor(9.0))
    assert built.fingerprint() != before
    assert built.is_finite()
    weights[3] = float("inf")
    assert not built.is_finite()


def test_the_learning_rate_follows_rule_and_schedule(tiny: Tiny, trajectory: Build) -> None:
    rate = {"base": 0.1, "rule": "sqrt", "reference_batch_size": 8}
    built = trajectory(tiny(learning_rate=rate, schedule="linear_decay"))
    assert [built.learning_rate(step) for step in (0, 3, 8)] == pytest.approx(
        [0.2, 0.2 * 6 / 9, 0.2 / 9], rel=1e-15
    )
