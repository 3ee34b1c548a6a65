"""The registry of probes: one line per probe."""

from __future__ import annotations

from geometry.probes.batches import FixedBatchesProbe, HeldOutProbe
from geometry.probes.bridge import BridgeProbe
from geometry.probes.contract import Probe
from geometry.probes.correlation import CorrelationProbe, LayerCorrelationProbe
from geometry.probes.full_batch import FullBatchProbe
from geometry.probes.independent import IndependentMinibatchProbe
from geometry.probes.lags import LagsProbe
from geometry.probes.path import PathProbe
from geometry.probes.plane import CoordinatesProbe, LevelSetsProbe
from geometry.probes.preconditioner import PreconditionerProbe
from geometry.probes.references import ReferencesProbe
from geometry.probes.segments import GroupsProbe, LayersProbe
from geometry.probes.sharpness import SharpnessProbe
from geometry.probes.sign_shift import SignShiftProbe
from geometry.probes.straight_line import StraightLineProbe
from geometry.probes.straightness import StraightnessProbe
from geometry.probes.update import UpdateProbe
from geometry.probes.used_rows import UsedRowsProbe
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
        FullBatchProbe,
        FixedBatchesProbe,
        HeldOutProbe,
        IndependentMinibatchProbe,
        SharpnessProbe,
        ReferencesProbe,
        LagsProbe,
        StraightLineProbe,
        StraightnessProbe,
        CorrelationProbe,
        LayerCorrelationProbe,
        SignShiftProbe,
        BridgeProbe,
        UsedRowsProbe,
        CoordinatesProbe,
        LevelSetsProbe,
    )
}
