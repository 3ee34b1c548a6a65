"""One run's measurement along a pass: its recorder and its tables so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from geometry.flat import FlatLayout
from geometry.probes.contract import ProbeContext, StepView
from geometry.probes.registry import PROBES
from geometry.recorder import DueProbe, Recorder
from geometry.reductions import RowReducer
from geometry.surface import Surface
from geometry.whole_run import Columns
from trainables.config import RunConfig
from trainables.length import Calendar
from trainables.whole_run import whole_run_columns

PROBE_STATE = "probe."
"""Prefix that tells a probe's state from a table in a checkpoint's keys."""


class Measurement:
    """Observes one run's steps up to its budget and collects its tables on the host.

    `state` and `load` carry the tables through a checkpoint, so that a resumed pass ends with the
    same bytes as one that was never interrupted.
    """

    def __init__(
        self,
        run_id: str,
        config: RunConfig,
        *,
        calendar: Calendar,
        layout: FlatLayout,
        reducer: RowReducer,
        reference: Tensor | None,
        references: Mapping[str, Tensor] | None = None,
        surface: Surface | None = None,
        unused_rows: Callable[[], Mapping[str, Tensor]] = dict,
    ) -> None:
        self.run_id = run_id
        self.config = config
        self._calendar, steps_per_epoch = calendar, calendar.steps_per_epoch
        self.num_steps = config.budget.num_steps(calendar)
        config.check_length(self.num_steps, steps_per_epoch)
        context = ProbeContext(
            layout, reducer, reference, references or {}, surface, self.num_steps, unused_rows
        )
        probes = [
            DueProbe(PROBES[p.name](context, p.typed_options()), p.cadence(steps_per_epoch))
            for p in config.all_probes()
        ]
        self._probes = {due.probe.name: due.probe for due in probes}
        self._recorder = Recorder(probes, min(steps_per_epoch, self.num_steps), reducer.device)
        self.labels = {p.probe.table: p.probe.labels for p in probes if p.probe.table != "steps"}
        """The row labels of every table but the steps table; None: one row per step."""
        self._parts: dict[str, list[Columns]] = {}
        self._learning_rates: list[float] = []
        """Those of the steps since the last flush, as they were used."""

    @property
    def needs_update(self) -> bool:
        """True if some probe needs w_{t+1}."""
        return self._recorder.needs_update

    def before_update(self, view: StepView, loss: Tensor) -> None:
        """Record step t before its update."""
        self._learning_rates.append(view.learning_rate)
        self._recorder.before_update(view, loss)

    def after_update(self, view: StepView) -> None:
        """Record step t after its update."""
        self._recorder.after_update(view)

    def flush(self) -> None:
        """Fetch what was recorded since the last flush; once per epoch and at the budget's end."""
        steps, losses, recorded = self._recorder.flush()
        learning_rate = torch.tensor(self._learning_rates, dtype=torch.float64)
        self._learning_rates.clear()
        table = {"step": steps, "loss": losses, "learning_rate": learning_rate}
        table |= self._growing_batches(steps)
        for part in recorded:
            if part.table == "steps":
                table |= part.columns
            else:
                self._append(part.table, {"step": part.steps, **part.columns})
        self._append("steps", table)

    def _growing_batches(self, steps: Tensor) -> Columns:
        """The column `examples`, where the batch size grows."""
        if not self.config.batch_growth:
            return {}
        epochs = self._calendar.epochs_of(steps.numpy()).tolist()
        sizes = [self.config.examples_per_step(0, epoch) for epoch in epochs]
        return {"examples": torch.tensor(sizes, dtype=torch.float64)}

    def _append(self, table: str, columns: Columns) -> None:
        self._parts.setdefault(table, []).append(columns)

    def tables(self) -> dict[str, Columns]:
        """Every table so far, by name; `steps` among them."""
        for name, parts in self._parts.items():
            joined = {column: torch.cat([part[column] for part in parts]) for column in parts[0]}
            self._parts[name] = [joined]
        return {name: parts[0] for name, parts in self._parts.items()}

    def state(self) -> dict[str, Tensor]:
        """Tables so far and the probes' state: `<run_id>/<table or probe>/<column or key>`."""
        parts = self.tables() | {
            f"{PROBE_STATE}{name}": probe.state() for name, probe in self._probes.items()
        }
        return {
            f"{self.run_id}/{part}/{key}": values
            for part, columns in parts.items()
            for key, values in columns.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up the tables and the probes' state of a checkpoint."""
        parts: dict[str, Columns] = {}
        for name, values in state.items():
            run_id, part, key = name.split("/")
            if run_id == self.run_id:
                parts.setdefault(part, {})[key] = values
        for name, probe in self._probes.items():
            probe.load(parts.pop(f"{PROBE_STATE}{name}", {}))
        self._parts = {table: [columns] for table, columns in parts.items()}

    def finished_tables(self) -> dict[str, Columns]:
        """The tables with the null model and all else filled in that needs the whole run."""
        tables = self.tables()
        tables["steps"] |= whole_run_columns(self.config, tables)
        return tables
