"""What the commands print: presets, plans, status, findings; text and rich tables only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.table import Table
from rich.text import Text

from geometry.probes.registry import PROBES
from sweeps.catalogue import describe, preset_names
from sweeps.costs import probe_costs
from sweeps.doctor import Finding
from sweeps.plan import Plan, PlannedRun
from sweeps.progress import counted, open_steps
from sweeps.spec import SweepSpec
from sweeps.status import RunStatus
from sweeps.weights import num_weights
from trainables.config import RunConfig
from trainables.full_batch import CHUNK_BYTES, chunks, example_bytes

BYTES_PER_WEIGHT = 4
"""float32, whatever the precision of the arithmetic."""
VECTORS = 5
"""Weight-sized vectors of a replay besides optimizer slots and further references: weights,
gradient, w*, w_t before the update, scratch (on the CPU the scratch is three blocks only)."""
KINDS = ("figure", "section", "appendix")
"""What of a paper a preset reproduces, in the order of the list."""
FIGURE = re.compile(rf"(P\d) ({'|'.join(KINDS)})s? (\w+)")
MIB = 2**20
GIB = 2**30
IDENTITIES = ("run", "trajectory")
"""Columns that are copied and pasted, and so not folded."""


def preset_lines() -> list[str]:
    """A heading, and one line per preset, in the order of the papers' figures."""
    presets = sorted(map(describe, preset_names()), key=lambda p: (_place(p.figure), p.name))
    rows = [("preset", "title", "figure", "variants")]
    rows += [(p.name, p.title, p.figure or "-", ", ".join(p.variants) or "-") for p in presets]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(row).rstrip() for row in padded]


def _place(figure: str) -> tuple[str, int, int, str]:
    """A preset's place: by paper, kind and number; the rest of a paper; then what has none."""
    found = FIGURE.match(figure)
    if found is None:
        return (figure[:2] if figure.startswith("P") else "~", len(KINDS), 0, figure)
    paper, kind, number = found.groups()
    return paper, KINDS.index(kind), int(number) if number.isdigit() else 0, figure


def spec_text(spec: SweepSpec) -> str:
    """The resolved spec as YAML."""
    return yaml.safe_dump(spec.plain(), sort_keys=False, allow_unicode=True)


def plan_table(plan: Plan, data_root: Path) -> Table:
    """Every run: its axes, steps, trajectory, state, weights and memory."""
    axes = list(dict.fromkeys(axis for run in plan.runs for axis in run.axes))
    headings = ("steps", "trajectory", "shared", "weights", "GiB", "state")
    table = _table("run", "ablation", *axes, *headings)
    shared = {t.trajectory_id: len(t.runs) for t in plan.trajectories}
    for run in plan.runs:
        weights = num_weights(run.config, data_root)
        table.add_row(
            run.run_id,
            ", ".join(run.ablations),
            *(str(run.axes.get(axis, "-")) for axis in axes),
            str(run.num_steps),
            run.trajectory_id,
            f"{shared[run.trajectory_id]} runs" if shared[run.trajectory_id] > 1 else "-",
            f"{weights:,}",
            f"{memory_gib(run, weights):.3f}",
            run.state,
        )
    return table


def plan_totals(plan: Plan) -> str:
    """Runs, trajectories, what is done, steps of both passes that are left."""
    open_trajectories = [t for t in plan.trajectories if t.open_runs]
    steps = sum(sum(open_steps(trajectory)) for trajectory in open_trajectories)
    alone = sum((1 + run.config.needs_replay()) * run.num_steps for run in plan.open_runs)
    reused = sum(trajectory.has_reference for trajectory in open_trajectories)
    passes = counted(reused, "reference pass is", "reference passes are")
    from_store = f"; {passes} in the store already" if reused else ""
    unshared = f" ({alone:,} if nothing were shared)" if alone != steps else ""
    return (
        f"{counted(len(plan.runs), 'run', 'runs')} on "
        f"{counted(len(plan.trajectories), 'trajectory', 'trajectories')}, "
        f"{len(plan.runs) - len(plan.open_runs)} done; at most {steps:,} steps are left in both "
        f"passes together{unshared}{from_store}"
    )


def costs_table(plan: Plan) -> Table | None:
    """Every probe that needs gradients of its own, and how many; None if no probe does."""
    costs = probe_costs(plan)
    if not costs:
        return None
    table = _table("probe", "every", "runs", "measurements", "extra gradients", "per step")
    for cost in costs:
        table.add_row(
            cost.probe,
            cost.every,
            str(cost.num_runs),
            f"{cost.num_measurements:,}",
            f"{cost.num_gradients:,.0f}",
            f"{cost.share:.1%}",
        )
    return table


def plan_notes(plan: Plan, data_root: Path) -> list[str]:
    """What the table does not say: how full batches are divided, and how batches grow."""
    full = [run.config for run in plan.runs if run.config.batch_size == "full"]
    distinct = {(config.model, config.data, config.chunk): config for config in full}
    chunked = [_chunk_note(config, data_root) for config in distinct.values()]
    growing = [_growth_note(run) for run in plan.runs if run.config.batch_growth]
    return [*chunked, *dict.fromkeys(growing)]


def _growth_note(run: PlannedRun) -> str:
    parts = (
        f"{run.config.examples_per_step(0, epoch):,} from epoch {epoch} on "
        f"({counted(length, 'step', 'steps')} each)"
        for epoch, length in run.calendar.phases
    )
    return f"batch_growth.factor {run.config.batch_growth.factor}: {', '.join(parts)}"


def _chunk_note(config: RunConfig, data_root: Path) -> str:
    assert config.chunk != "auto", "chosen when the run was planned"
    num_train = config.task.num_train(config, data_root)
    mib = example_bytes(config, data_root) / MIB
    number = counted(len(chunks(num_train, config.chunk)), "chunk", "chunks")
    return (
        f"batch_size full, {config.model.name} on {config.data.name}: {num_train:,} examples in "
        f"{number} of at most {config.chunk:,} (an example keeps {mib:.3g} MiB at most, a "
        f"chunk {mib * config.chunk / 1024:.3g} GiB; chunk: auto stays within "
        f"{CHUNK_BYTES / GIB:g} GiB). Batch normalisation sees one chunk at a time: the chunk is "
        "part of the trajectory."
    )


def memory_gib(run: PlannedRun, weights: int) -> float:
    """GiB of the weight-sized vectors of a replay and of its probes, without activations."""
    probes = (p for p in run.config.all_probes())
    measured = sum(PROBES[p.name].num_vectors(p.typed_options()) for p in probes)
    vectors = VECTORS + run.config.optimizer.num_vectors + measured
    return vectors * weights * BYTES_PER_WEIGHT / GIB


def status_table(runs: Sequence[RunStatus]) -> Table:
    """One line per run."""
    axes = list(dict.fromkeys(axis for run in runs for axis in run.axes))
    table = _table("run", "ablation", *axes, "state", "pass", "epoch", "left", "last error")
    for run in runs:
        table.add_row(
            run.run_id,
            ", ".join(run.ablations),
            *(str(run.axes.get(axis, "-")) for axis in axes),
            run.state,
            run.phase or "-",
            run.epoch or "-",
            run.remaining or "-",
            run.error or "-",
        )
    return table


_MARKS = {True: Text("ok", "green"), False: Text("!!", "red"), None: Text("--", "dim")}


def findings_table(findings: Sequence[Finding]) -> Table:
    """One line per thing examined."""
    table = _table("", "checked", "found", "to do")
    for finding in findings:
        table.add_row(_MARKS[finding.ok], finding.name, finding.detail, finding.advice or "-")
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in IDENTITIES)
    return table
