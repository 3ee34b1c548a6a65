"""The registry of probes: one line per probe."""

from __future__ import annotations

from geometry.probes.contract import Probe
from geometry.probes.path import PathProbe
from geometry.probes.preconditioner import PreconditionerProbe
from geometry.probes.segments import GroupsProbe, LayersProbe
from geometry.probes.update import UpdateProbe
from geometry.probes.weight_decay import WeightDecayProbe

PROBES: dict[str, type[Probe]] = {
    probe.name: probe
    for probe in (
        PathProbe,
        UpdateProbe,
        WeightDecayProbe,
        PreconditionerProbe,
        LayersProbe,
        GroupsProbe,
    )
}
