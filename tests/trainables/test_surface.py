"""The loss surface of real small networks: other batches and curvature, nothing disturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from geometry.surface import FULL, Batch
from tests.trainables.small_probes import small_probe
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.job import Progress
from trainables.store import Store, StoreDamaged, read_table, write_table
from trainables.surface import FIXED_EPOCH, TrajectorySurface
from trainables.trajectory import Trajectory
from trainables.verify import verify_run

Build = Callable[..., Trajectory]
Tiny = Callable[..., RunConfig]
Finish = Callable[..., list[Progress]]

BATCHES = [Batch("fixed"), Batch("fixed", 4), Batch("fresh", 2), Batch("held_out"), FULL]
SMOOTH: dict[str, Any] = {"model": {"name": "mlp", "hidden": [4]}}


def gradient(surface: TrajectorySurface, batch: Batch, weights: Tensor) -> tuple[Tensor, Tensor]:
    out = torch.full_like(weights, 7.0)
    loss = surface.gradient(batch, weights, out)
    return loss, out


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_a_gradient_is_a_pure_function_of_batch_and_weights(
    stateful: RunConfig, trajectory: Build, batch: Batch
) -> None:
    """Whatever was computed before, at whatever step: for every kind of state and randomness."""
    data = stateful.data.model_copy(update={"validation_examples": 32})
    config = stateful.model_copy(update={"data": data})
    built, later = trajectory(config), trajectory(config)
    weights = built.flat.weights.clone()
    loss, first = gradient(TrajectorySurface(built), batch, weights)
    later.advance(4)
    surface = TrajectorySurface(later)
    for other in BATCHES:
        gradient(surface, other, later.flat.weights)
    again, second = gradient(surface, batch, weights)
    assert torch.equal(first, second)
    assert torch.equal(loss, again)
    assert first.any()
    assert torch.equal(surface.loss(batch, weights), loss)


def test_the_loss_and_gradient_of_a_batch_are_those_of_its_examples(
    tiny: Tiny, trajectory: Build
) -> None:
    built = trajectory(tiny(**SMOOTH))
    task: Any = built.task
    cases = {
        Batch("fixed", 1): lambda: task.loss(built.model, 1_000_000_000 * 3 + 1),
        FULL: lambda: task.loss_on(built.model, "train", slice(None)),
    }
    for batch, loss_of in cases.items():
        loss, found = gradient(TrajectorySurface(built), batch, built.flat.weights)
        built.flat.gradients.zero_()
        expected = loss_of()
        expected.backward()
        torch.testing.assert_close(found, built.flat.gradients, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(loss.float(), expected.detach())


def test_batches_differ_and_never_are_the_trainings_own(tiny: Tiny, trajectory: Build) -> None:
    built = trajectory(tiny(data={"name": "digits", "train_examples": 96, "crop_padding": 1}))
    surface, task = TrajectorySurface(built), built.task
    fixed = {float(surface.loss(Batch("fixed", i), built.flat.weights)) for i in range(6)}
    fresh = {float(surface.loss(Batch("fresh", i), built.flat.weights)) for i in range(6)}
    with torch.no_grad():
        own = {float(task.loss(built.model, step)) for step in range(6)}
    assert len(fixed | fresh | own) == 18


def test_the_batch_size_is_that_of_the_fixed_batches_where_batches_grow(
    tiny: Tiny, trajectory: Build
) -> None:
    """It is a factor of the gradient noise scale."""
    growth = {"epochs": [1, 2], "factor": 2}
    built = trajectory(tiny(batch_size=8, batch_growth=growth, budget={"epochs": 3}))
    task: Any = built.task
    _, labels = task.minibatch(task.calendar.start(FIXED_EPOCH))
    assert TrajectorySurface(built).batch_size == len(labels) == 32


@pytest.mark.parametrize("batch", [Batch("fixed"), FULL], ids=str)
def test_the_hessian_product_is_the_derivative_of_the_gradient(
    tiny: Tiny, trajectory: Build, batch: Batch
) -> None:
    """By central differences, of a network without kinks; the full batch in two chunks."""
    built = trajectory(tiny(model={"name": "mlp", "hidden": []}, batch_size=48))
    surface, weights = TrajectorySurface(built), built.flat.weights.clone()
    vector = direction(built)
    product = torch.full_like(weights, 7.0)
    surface.hessian_product(batch, weights, vector, product)
    (_, ahead), (_, behind) = (
        gradient(surface, batch, weights + sign * 1e-2 * vector) for sign in (1, -1)
    )
    difference = (ahead - behind) / 2e-2
    assert float((product - difference).norm() / product.norm()) < 5e-3


@pytest.mark.parametrize(
    "model", [{"name": "mlp", "hidden": [8]}, {"name": "cnn", "channels": [4], "batch_norm": True}]
)
def test_the_hessian_product_is_that_of_torch(
    tiny: Tiny, trajectory: Build, model: dict[str, Any]
) -> None:
    built = trajectory(tiny(model=model, batch_size=96))
    task: Any = built.task
    segments, vector = built.flat.layout.segments, direction(built)

    def loss(*parameters: Tensor) -> Any:
        named = dict(zip(built.flat.layout.labels, parameters, strict=True))
        network = lambda images: functional_call(built.model, named, (images,))  # noqa: E731
        return task.loss_on(network, "train", slice(None))

    at = tuple(segment.view(built.flat.weights).clone() for segment in segments)
    along = tuple(segment.view(vector) for segment in segments)
    _, expected = torch.autograd.functional.hvp(loss, at, along)
    product = torch.full_like(vector, 7.0)
    surface = TrajectorySurface(built)
    surface.hessian_product(FULL, built.flat.weights, vector, product)
    for segment, part in zip(segments, expected, strict=True):
        torch.testing.assert_close(segment.view(product), part, rtol=1e-4, atol=1e-5)


def direction(built: Trajectory) -> Tensor:
    """A drawn vector of the layout, its padding zero."""
    drawn = torch.zeros_like(built.flat.weights)
    generator = torch.Generator().manual_seed(1)
    for segment in built.flat.layout.segments:
        end = segment.offset + segment.numel
        drawn[segment.offset : end] = torch.randn(segment.numel, generator=generator)
    return drawn


def test_the_full_batch_of_a_full_batch_run_is_its_step(tiny: Tiny, trajectory: Build) -> None:
    built = trajectory(tiny(batch_size="full", chunk=40))
    seen = []

    class Watch:
        needs_update = False

        def before_update(self, view: Any, loss: Tensor) -> None:
            seen.append((view.gradient.clone(), loss.clone()))
            seen.append(gradient(surface, FULL, view.weights)[::-1])

    surface = TrajectorySurface(built)
    built.advance(1, [Watch()])  # type: ignore[list-item]
    torch.testing.assert_close(seen[0][0], seen[1][0])
    torch.testing.assert_close(seen[0][1].double(), seen[1][1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"probes": ["held_out"]},
            "probe held_out: 10 batches of 32 are more than the validation examples fill; "
            "give a smaller batch_size",
        ),
        (
            {"probes": ["held_out"], "batch_size": 8},
            "probe held_out: 10 batches of 8 are more than the validation examples fill; "
            "give num_batches: 2 or fewer, or a smaller batch_size",
        ),
        (
            {"probes": ["probe_batches"], "batch_size": "full", "chunk": 96},
            "probe probe_batches draws minibatches, and batch_size: full has none; leave it out",
        ),
    ],
)
def test_batches_that_cannot_be_are_refused_before_training(
    tiny: Tiny, store: Store, finish: Finish, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        finish(store, a=tiny(**options))
    assert not (store.trajectory("t").path / "references").exists()


def test_a_cadence_in_epochs_is_one_row_per_epoch(tiny: Tiny, store: Store, finish: Finish) -> None:
    probes = ["full_batch", {"name": "sharpness", "iterations": 2, "every": 4}]
    finish(store, a=tiny(probes=probes))
    table = read_table(store.run("a").path / "full_batch.parquet")
    assert table["step"].tolist() == [0, 3, 6]
    assert "label" not in table
    sharpness = read_table(store.run("a").path / "sharpness.parquet")
    assert sharpness["step"].tolist() == [0, 4, 8]
    assert (sharpness["stability_limit"] == 2 / 0.05).all()


def test_one_epoch_alone_gives_their_rows_again(
    tiny: Tiny, store: Store, finish: Finish, tmp_path: Path
) -> None:
    """They are functions of w_t; lags, which remember a base, are left out of the comparison."""
    data = {"name": "digits", "train_examples": 96, "validation_examples": 128}
    names = ("full_batch", "probe_batches", "held_out", "independent_minibatch", "sharpness")
    probes = [small_probe(name) for name in (*names, "straight_line", "lags", "straightness")]
    finish(
        store,
        a=tiny(
            data=data,
            model={"name": "mlp", "hidden": [4], "dropout": 0.2},
            probes=[
                {**probe, "every": 2} if "every" not in probe and probe["name"] in names else probe
                for probe in probes
            ],
        ),
    )
    verify_run(store, "a", data_root=tmp_path, device=torch.device("cpu"))
    lags = read_table(store.run("a").path / "lags.parquet")
    assert lags["step"].tolist() == [1, 2, 3, 5, 6, 7]
    path = store.run("a").path / "sharpness.parquet"
    table = read_table(path)
    table["sharpness"] *= 1 + 1e-12
    write_table(path, table)
    manifest = store.run("a").manifest()
    assert manifest is not None
    files = list(manifest.pop("files"))
    del manifest["store_version"]
    store.run("a").write_manifest(manifest, files)
    with pytest.raises(StoreDamaged, match=r"sharpness\.parquet: sharpness of step"):
        verify_run(store, "a", data_root=tmp_path, device=torch.device("cpu"))


def test_a_cadence_is_written_in_one_way(tiny: Tiny) -> None:
    """The probe's own cadence has no place in the identity."""
    plain = tiny(probes=["full_batch", "layers"]).plain()
    assert (
        tiny(
            probes=[{"name": "full_batch", "every": "epoch"}, {"name": "layers", "every": 1}]
        ).plain()
        == plain
    )
    assert tiny(probes=[{"name": "layers", "every": "epoch"}]).probes[0].cadence(3) == 3
    with pytest.raises(UserError, match=r"probes\.0\.every: .*got 'week'; or write epoch"):
        tiny(probes=[{"name": "layers", "every": "week"}])
