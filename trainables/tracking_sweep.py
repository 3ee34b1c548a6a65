"""What the sweep's own MLflow run says of its members: a pure function of what they say."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.tracking_content import TAG_LENGTH, DataUsed, RunContent

MEMBERS_TAGS = (
    "batch_size", "optimizer", "seed", "budget", "model", "data", "regime", "replay_exact",
    "stand_in",
)  # fmt: skip
"""Tags of runs that a user filters by, which the sweep has as well: all values that occur."""


def shared_params(members: Sequence[RunContent]) -> dict[str, str]:
    """The parameters that all members have with the same value; what varies is not among them."""
    if not members:
        return {}
    shared = set(members[0].params.items()).intersection(*(m.params.items() for m in members[1:]))
    return {name: value for name, value in members[0].params.items() if (name, value) in shared}


def joined_tags(members: Sequence[RunContent]) -> dict[str, str]:
    """Of each of MEMBERS_TAGS that some member has, all values in the members' order."""
    found = {
        name: dict.fromkeys(member.tags[name] for member in members if name in member.tags)
        for name in MEMBERS_TAGS
    }
    return {name: ", ".join(values)[:TAG_LENGTH] for name, values in found.items() if values}


def data_of(members: Sequence[RunContent]) -> list[DataUsed]:
    """The data sets that finished members were trained on, each once."""
    used = (member.data for member in members if member.data is not None)
    return list({(data.name, data.digest): data for data in used}.values())
