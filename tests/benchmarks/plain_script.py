"""The baseline: the Ray Tune and MLflow script one would write for the quickstart's 30 runs.

Digits, MLP 64-128-128-10, momentum 0.9, learning rate 0.01 sqrt(b/16), batch sizes 16 to 256, three
seeds, once 40 epochs and once 1000 steps. Each run trains twice: once for w*, once more with gamma
measured at every step. A function trainable, a DataLoader, concatenated vectors, float32 norms,
`.item()` at every step, metrics to MLflow once per epoch, a fresh actor per run, two at a time.
It does less than the quickstart: no check of the replay, no null model, no tables, no report.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import ray
import torch
from ray import tune
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

BATCH_SIZES = [16, 32, 64, 128, 256]
SEEDS = [0, 1, 2]
BUDGETS = [{"epochs": 40, "steps": None}, {"epochs": None, "steps": 1000}]
EXPERIMENT = "plain"


def load_data() -> tuple[TensorDataset, Tensor, Tensor]:
    """The first 1500 digits to train on, the others to validate on, normalised."""
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    images = (images - images[:1500].mean()) / images[:1500].std()
    return TensorDataset(images[:1500], labels[:1500]), images[1500:], labels[1500:]


def build_model() -> nn.Module:
    """MLP 64-128-128-10."""
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def flat_weights(model: nn.Module) -> Tensor:
    """All weights in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def flat_gradients(model: nn.Module) -> Tensor:
    """All gradients in one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def geometry(model: nn.Module, reference: Tensor) -> dict[str, float]:
    """Distance to w*, gradient norm and gamma of the current step."""
    gradient, displacement = flat_gradients(model), flat_weights(model) - reference
    norm, distance = torch.norm(gradient).item(), torch.norm(displacement).item()
    inner = torch.dot(gradient, displacement).item()
    gamma = inner / (norm * distance) if norm * distance > 0 else math.nan
    return {"distance": distance, "gradient_norm": norm, "gamma": gamma}


def validate(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Validation loss and accuracy."""
    model.eval()
    with torch.no_grad():
        outputs = model(images)
        loss = F.cross_entropy(outputs, labels).item()
        accuracy = (outputs.argmax(1) == labels).float().mean().item()
    model.train()
    return {"validation_loss": loss, "validation_accuracy": accuracy}


def train_once(config: dict[str, Any], reference: Tensor | None) -> Tensor:
    """One pass; validates if it is the first, measures against `reference` if it is the second."""
    train_set, images, labels = load_data()
    batch_size, seed = config["batch_size"], config["seed"]
    torch.manual_seed(seed)
    model = build_model()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01 * math.sqrt(batch_size / 16), momentum=0.9
    )
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(train_set, batch_size, shuffle=True, drop_last=True, generator=order)
    num_steps = config["budget"]["steps"] or config["budget"]["epochs"] * len(loader)
    step = 0
    for epoch in range(math.ceil(num_steps / len(loader))):
        losses: list[float] = []
        rows: list[dict[str, float]] = []
        for inputs, targets in loader:
            if step == num_steps:
                break
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            if reference is not None:
                rows.append(geometry(model, reference))
            optimizer.step()
            losses.append(loss.item())
            step += 1
        metrics = {"train_loss": sum(losses) / len(losses)}
        metrics |= validate(model, images, labels) if reference is None else means(rows)
        log_epoch("reference" if reference is None else "replay", metrics, epoch)
    return flat_weights(model)


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every measured value over an epoch's steps."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def log_epoch(which: str, metrics: dict[str, float], epoch: int) -> None:
    """An epoch's metrics to MLflow."""
    mlflow.log_metrics({f"{which}/{name}": value for name, value in metrics.items()}, step=epoch)


def train(config: dict[str, Any]) -> None:
    """One run: both passes, under one MLflow run."""
    torch.set_num_threads(1)
    mlflow.set_tracking_uri(config["tracking_uri"])
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run():
        mlflow.log_params({name: config[name] for name in ("batch_size", "seed", "budget")})
        reference = train_once(config, None)
        final = train_once(config, reference)
    tune.report({"gap": torch.norm(final - reference).item()})


def main() -> None:
    """Run the grid and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    storage = arguments.storage.resolve()
    storage.mkdir(parents=True, exist_ok=True)
    tracking_uri = f"sqlite:///{storage}/mlflow.db"
    # made here: several workers that open a fresh database at once collide in its migrations
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(EXPERIMENT)
    ray.init(address="local", num_cpus=2)
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={
            "batch_size": tune.grid_search(arguments.batch_sizes),
            "seed": tune.grid_search(arguments.seeds),
            "budget": tune.grid_search(BUDGETS),
            "tracking_uri": tracking_uri,
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(name=EXPERIMENT, storage_path=str(storage)),
    )
    results = tuner.fit()
    gaps = [(results[index].metrics or {}).get("gap") for index in range(len(results))]
    print(f"{len(results)} runs, {results.num_errors} failed, replay gaps {set(gaps)}")
    sys.exit(1 if results.num_errors else 0)


if __name__ == "__main__":
    main()
