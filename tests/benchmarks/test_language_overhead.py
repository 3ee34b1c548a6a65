"""What measuring costs in language modelling: the replay step against the bare training step."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from tests.benchmarks.harness import PAIRS, device_name, interleaved, print_table, ratio
from tests.benchmarks.loops import ReplayLoop
from trainables.config import LearningRate, RunConfig
from trainables.data.contract import SplitSizes
from trainables.data.text import TextData, TextSplit
from trainables.data.wikitext import WikiText2
from trainables.models.transformer import Transformer
from trainables.optimizers import Adam
from trainables.randomness import seeded
from trainables.tasks.language_modelling import LanguageModelling

pytestmark = pytest.mark.benchmark

PROBES = {
    "path": ("path",),
    "path, update": ("path", "update"),
    "path, update, used rows": ("path", "update", "used_rows"),
}
"""All with what Adam's null model needs; the last are those of the language presets."""

LIMITS = {"path": "<= 1.10", "path, update": "<= 1.10", "path, update, used rows": "-"}
"""Issue 3; the gamma without unused rows is no part of it."""

STEPS = {"cpu": 1, "cuda": 50}
"""Steps per turn: about a second on two cores."""

NUM_LINES, NUM_WORDS = 6_000, 33_278


class SyntheticText(WikiText2):
    """Drawn lines in WikiText-2's proportions: a third blank, a sixth headings, the rest long."""

    name: ClassVar[str] = "synthetic_text"

    def sizes(self, root: Path) -> SplitSizes:
        """The drawn lines; the same ones validate, which no benchmark does."""
        return SplitSizes(NUM_LINES, NUM_LINES, 0)

    def load(self, root: Path) -> TextData:
        """The drawn lines, of words as frequent as Zipf's law has them."""
        draw = np.random.default_rng(0)
        lengths = draw.choice([1, 6, 90], size=NUM_LINES, p=[1 / 3, 1 / 6, 1 / 2])
        starts = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
        odds = 1 / np.arange(1, NUM_WORDS + 1)
        tokens = draw.choice(NUM_WORDS, size=starts[-1], p=odds / odds.sum()).astype(np.int32)
        split = TextSplit(tokens, starts)
        return TextData("drawn", split, split, test=None, num_words=NUM_WORDS, padding=0)


def p1s_config() -> RunConfig:
    """P1's language setting: 12 layers, 9,747,454 weights, batch 32, Adam, clipping."""
    return RunConfig(
        task=LanguageModelling(),
        data=SyntheticText(),
        model=Transformer(),
        optimizer=Adam(weight_decay=1e-5, gradient_clip=0.25),
        learning_rate=LearningRate(base=1e-4),
        batch_size=32,
    )


class BareLoop:
    """The plain loop over the same minibatches: per-tensor parameters, torch's own clipping."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.task = config.task.bind(config, Path(), device)
        with seeded(config.seed_for("init"), "init"):
            self.model = self.task.build_model().to(device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=config.learning_rate.base,
            weight_decay=config.optimizer.weight_decay,
        )
        self.step = 0

    def advance(self, num_steps: int) -> None:
        """Take so many steps."""
        for _ in range(num_steps):
            self.optimizer.zero_grad()
            self.task.loss(self.model, self.step).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
            self.optimizer.step()
            self.step += 1


def test_language_step_overhead(device: torch.device) -> None:
    steps = STEPS[device.type]
    bare, replay = BareLoop(p1s_config(), device), ReplayLoop(p1s_config(), device)
    measurements = {name: replay.measurement(probes) for name, probes in PROBES.items()}
    ours = {
        name: lambda measurement=measurement: replay.advance(steps, [measurement])
        for name, measurement in measurements.items()
    }
    times = interleaved({"bare": lambda: bare.advance(steps), **ours}, device)
    milliseconds = {name: f"{1e3 * statistics.median(t) / steps:.0f}" for name, t in times.items()}
    print_table(
        f"Step against the bare training step: Transformer, 12 layers, {NUM_WORDS:,} words, "
        f"batch 32, {device_name(device)}",
        ["measured", "ms per step", "ratio", "limit"],
        [
            ["nothing (bare)", milliseconds["bare"], "1", ""],
            *(
                [name, milliseconds[name], ratio(times, name, "bare").show(3), limit]
                for name, limit in LIMITS.items()
            ),
        ],
        f"Medians (min..max) of {PAIRS} interleaved rounds of {steps} steps.",
    )
