"""The record of a reference pass: fingerprints, evaluations, references, where it diverged."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from trainables.length import Calendar

if TYPE_CHECKING:
    from trainables.store import Folder

Evaluation = dict[str, float]
"""Values such as train_loss or validation_accuracy, by name."""


class ReplayDiverged(Exception):
    """The same training came to other weights: its numbers mean nothing."""

    def __init__(self, epoch: int, expected: str, got: str) -> None:
        super().__init__(
            f"replay diverged by the end of epoch {epoch}: "
            f"weights {got[:12]} where the reference pass had {expected[:12]}"
        )
        self.epoch, self.expected, self.got = epoch, expected, got


def without_test(evaluation: Evaluation) -> Evaluation:
    """The values of the splits that are evaluated during a training: train and validation."""
    return {name: value for name, value in evaluation.items() if not name.startswith("test_")}


class EpochRecord(BaseModel):
    """The end of one epoch: steps done, fingerprint of the weights, evaluation if it was due."""

    model_config = ConfigDict(extra="forbid")

    epoch: int
    step: int
    fingerprint: str
    evaluation: Evaluation = {}

    def row(self) -> dict[str, float | int | str]:
        """The record as one flat row."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "fingerprint": self.fingerprint,
            **self.evaluation,
        }


class End(BaseModel):
    """A reference w*: the steps it took, its file, its fingerprint, its evaluation."""

    model_config = ConfigDict(extra="forbid")

    step: int
    file: str
    fingerprint: str
    evaluation: Evaluation


class Kept(BaseModel):
    """A vector of a budget that is not its w*: a running average, the best iterate."""

    model_config = ConfigDict(extra="forbid")

    label: str
    end: int
    """Steps of the budget."""
    step: int
    """Steps after which the vector was complete: those of the best iterate, else the budget's."""
    file: str
    fingerprint: str


class ReferenceRecord(BaseModel):
    """What the reference pass leaves behind besides weights; carried through its checkpoints."""

    model_config = ConfigDict(extra="forbid")

    environment: dict[str, Any]
    steps_per_epoch: int
    """Of the first epoch."""
    growth: tuple[tuple[int, int], ...] = ()
    """(epoch, steps per epoch from it on), where the batch size grows."""
    data_digest: str
    initial: Evaluation = {}
    """Evaluation of w_0."""
    epochs: list[EpochRecord] = []
    ends: list[End] = []
    kept: list[Kept] = []
    diverged_at_step: int | None = None
    """First step whose loss, or whose update's result, was not a number."""
    drawn_epoch: int | None = None
    """The epoch at whose start the state was kept, for `optpath verify`."""
    schedule: dict[str, float | int | str | None] = {}
    """What the schedule did: `schedule_...` -> value; empty for a fixed one."""
    redone_because: str | None = None
    """Why an earlier reference pass was thrown away, if one was."""

    @property
    def calendar(self) -> Calendar:
        """Which step belongs to which epoch."""
        return Calendar(((0, self.steps_per_epoch), *self.growth))

    def end(self, step: int) -> End | None:
        """The reference after that many steps, if there is one."""
        return next((end for end in self.ends if end.step == step), None)

    def kept_vector(self, label: str, end: int) -> Kept | None:
        """The vector of that name and budget, if it was kept."""
        return next((k for k in self.kept if (k.label, k.end) == (label, end)), None)

    def epoch(self, epoch: int) -> EpochRecord | None:
        """The record of that epoch, if it was reached."""
        return self.epochs[epoch] if epoch < len(self.epochs) else None

    def check_epoch(self, epoch: int, fingerprint: str) -> None:
        """Compare with the fingerprint of that epoch's end; raises ReplayDiverged."""
        expected = self.epochs[epoch].fingerprint
        if fingerprint != expected:
            raise ReplayDiverged(epoch, expected, fingerprint)

    def check_end(self, step: int, fingerprint: str) -> None:
        """Compare with the reference after that many steps; raises ReplayDiverged."""
        end = self.end(step)
        if end is not None and fingerprint != end.fingerprint:
            epoch, _ = self.calendar.place(step - 1)
            raise ReplayDiverged(epoch, end.fingerprint, fingerprint)

    def covers(self, step: int) -> bool:
        """True if nothing is left to do for a budget of that many steps."""
        diverged = self.diverged_at_step is not None and self.diverged_at_step < step
        return diverged or self.end(step) is not None

    def rows_until(self, step: int) -> list[dict[str, float | int | str]]:
        """Flat rows of the epochs that end within a budget of `step` steps.

        The budget's own end is always evaluated; NaN stands where the cadence left an epoch out.
        """
        unknown: dict[str, float | int | str] = dict.fromkeys(self.initial, math.nan)
        rows = [unknown | epoch.row() for epoch in self.epochs if epoch.step <= step]
        end = self.end(step)
        if end is not None and rows and rows[-1]["step"] == step:
            rows[-1].update(without_test(end.evaluation))
        return rows

    def text(self) -> str:
        """The record as JSON, for a checkpoint's metadata."""
        return self.model_dump_json()

    def plain(self) -> dict[str, Any]:
        """The record as plain values, for a manifest."""
        values: dict[str, Any] = json.loads(self.text())
        return values


def sealed_record(folder: Folder) -> ReferenceRecord | None:
    """The record in a trajectory's manifest: of a finished reference pass, None without one."""
    manifest = folder.manifest()
    return None if manifest is None else ReferenceRecord.model_validate(manifest["record"])
