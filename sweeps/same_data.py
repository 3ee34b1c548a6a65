"""The data that a sweep's stored results were computed from, held against those that are there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.plan import Plan
from sweeps.plan_store import PLAN
from trainables.config import RunConfig
from trainables.data.contract import DataConfig
from trainables.data.same import check_same
from trainables.errors import UserError
from trainables.store import Store, read_sealed

NOT_READ = "not read yet as they are now"


class PresentData:
    """The data sets in a data folder, each looked at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unknown: dict[DataConfig, str] = {}
        """Why the digest of some is not known."""
        self._digests: dict[DataConfig, str | None] = {}
        self._parsed: dict[str, DataConfig] = {}

    def digest(self, data: DataConfig) -> str | None:
        """The digest of what is there now; None where that is unknown, or can only be the same.

        Data that are not there are no mistake: a cluster's head may have none, and its workers
        compare what they load with what the store says.
        """
        if not data.generated and data not in self._digests:
            try:
                self._digests[data] = data.digest(self.root)
            except UserError as error:
                self.unknown[data] = str(error)
            else:
                if self._digests[data] is None:
                    self.unknown[data] = NOT_READ
        return self._digests.get(data)

    def of(self, config: Mapping[str, Any]) -> DataConfig:
        """The data set of a plain config."""
        key = json.dumps(config.get("data"))
        if key not in self._parsed:
            self._parsed[key] = RunConfig.parse(config).data
        return self._parsed[key]


@dataclass(frozen=True)
class Used:
    """A run of which the store has results, and the digest of the data that they came from."""

    run_id: str
    data: DataConfig
    digest: str


def check_same_data(plan: Plan, store: Store, data_root: Path) -> list[str]:
    """Refuse to mix results of different data; a line for each data set that cannot be compared.

    Raises:
        UserError: results that the plan builds on, or adds to, came from other data.
    """
    present = PresentData(data_root)
    counts: Counter[DataConfig] = Counter()
    for used in [*_planned(plan), *_further(plan, store, present)]:
        found = present.digest(used.data)
        if found is not None:
            check_same(f"run {used.run_id}", used.data, data_root, used.digest, found)
        counts[used.data] += used.data in present.unknown
    return [
        f"data {data.name}: not compared with what {counts[data]} of the stored runs were computed "
        f"from: {reason}"
        for data, reason in present.unknown.items()
    ]


def _planned(plan: Plan) -> list[Used]:
    """The plan's runs that the store has results or a reference pass of."""
    return [
        Used(run.run_id, run.config.data, plan.computed_from[run.run_id])
        for run in plan.runs
        if run.run_id in plan.computed_from
    ]


def _further(plan: Plan, store: Store, present: PresentData) -> list[Used]:
    """The other finished runs of the stored sweep of that name."""
    stored = read_sealed(store.sweep(plan.name).path / PLAN) or {"runs": []}
    planned = {run.run_id for run in plan.runs}
    others = (entry for entry in stored["runs"] if entry["run_id"] not in planned)
    manifests = ((entry, store.run(entry["run_id"]).manifest()) for entry in others)
    return [
        Used(entry["run_id"], present.of(entry["config"]), manifest["data_digest"])
        for entry, manifest in manifests
        if manifest is not None
    ]
