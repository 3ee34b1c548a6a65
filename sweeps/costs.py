"""What the probes of a plan cost: gradients besides those of the training itself."""

from __future__ import annotations

from dataclasses import dataclass

from geometry.probes.registry import PROBES
from sweeps.plan import Plan, PlannedRun
from trainables.config import ProbeConfig


@dataclass(frozen=True)
class ProbeCost:
    """The cost of one probe, as it is written in a config, over the plan's open runs."""

    probe: str
    every: str
    num_runs: int
    num_measurements: int
    num_gradients: float
    """Besides the training's own, in gradients of each run's minibatches."""
    num_steps: int
    """Steps of those runs, one gradient each in the pass that measures."""

    @property
    def share(self) -> float:
        """Extra gradients per gradient of the pass that measures."""
        return self.num_gradients / self.num_steps


def probe_costs(plan: Plan) -> list[ProbeCost]:
    """Every probe of the open runs that needs gradients of its own, in the order of the plan."""
    groups: dict[str, list[tuple[PlannedRun, ProbeConfig]]] = {}
    for run in plan.open_runs:
        for probe in run.config.all_probes():
            groups.setdefault(repr(probe), []).append((run, probe))
    costs = (_cost(members) for members in groups.values())
    return [cost for cost in costs if cost.num_gradients]


def _cost(members: list[tuple[PlannedRun, ProbeConfig]]) -> ProbeCost:
    _, probe = members[0]
    counts = [_num_measurements(run, probe) for run, probe in members]
    each = [_gradients_each(run, probe) for run, probe in members]
    return ProbeCost(
        probe=probe.name,
        every="once" if max(counts) == 1 else str(probe.every or PROBES[probe.name].default_every),
        num_runs=len(members),
        num_measurements=sum(counts),
        num_gradients=sum(n * cost for n, cost in zip(counts, each, strict=True)),
        num_steps=sum(run.num_steps for run, _ in members),
    )


def _num_measurements(run: PlannedRun, probe: ProbeConfig) -> int:
    return -(-run.num_steps // probe.cadence(run.steps_per_epoch))


def _gradients_each(run: PlannedRun, probe: ProbeConfig) -> float:
    cls = PROBES[probe.name]
    return cls.extra_gradients(probe.typed_options(), batches_per_pass=run.steps_per_epoch)
