"""Needs that claims share: which data, model, axis, length, number of seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from analysis.claims.contract import Need
from analysis.claims.facts import Facts

Key = Callable[[Facts], object]


def plain(name: str) -> str:
    """A member's name without case and separators: WikiText-2 is wikitext2."""
    return "".join(c for c in name.lower() if c.isalnum())


def is_of(facts: Facts, kind: str, names: Iterable[str]) -> bool:
    """True if the run's data, model, ... is one of those names, however they are written."""
    return plain(facts.member(kind)) in set(names)


def data(*names: str) -> Need:
    """Runs on one of these data sets."""
    return Need(f"runs on {' or '.join(names)}", lambda f: is_of(f, "data", map(plain, names)))


def model(words: str, *names: str) -> Need:
    """Runs of models whose names begin with one of these."""
    starts = tuple(map(plain, names))
    return Need(f"runs of {words}", lambda f: plain(f.member("model")).startswith(starts))


def synthetic(words: str, *names: str) -> Need:
    """Runs of a synthetic problem, which is the run's task, its data or its model by name."""
    known = set(map(plain, names))
    kinds = ("task", "data", "model")
    return Need(f"runs of {words}", lambda f: any(is_of(f, kind, known) for kind in kinds))


def steps(number: int, why: str) -> Need:
    """Runs of at least that many steps: what the claim says depends on their number."""
    words = f"runs of at least {number} steps ({why})"
    return Need(words, lambda f: f.num_steps >= number)


def steps_per_epoch(number: int, why: str) -> Need:
    """Runs of at least that many steps in their first epoch."""
    words = f"runs of at least {number} steps per epoch ({why})"
    return Need(words, lambda f: f.steps_per_epoch >= number)


def epochs(number: int) -> Need:
    """Runs of at least that many epochs."""
    words = f"runs of at least {number} epochs"
    return Need(words, lambda f: f.length.num_whole_epochs >= number)


def is_constant(facts: Facts) -> bool:
    """True if the learning rate is constant, which is the default schedule."""
    return is_of(facts, "schedule", ["", "constant"])


def regime(name: str) -> Need:
    """Runs that ended in that regime; open for a planned run."""
    return Need(f"{name} runs", lambda f: f.planned or f.regime == name)


def full_batch() -> Need:
    """Runs of full-batch gradient descent."""
    return Need("runs of full-batch gradient descent (batch_size: full)", lambda f: f.is_full_batch)


def levels(words: str, key: Key, at_least: int = 2) -> Need:
    """Runs at several values of something."""

    def enough(runs: Sequence[Facts]) -> bool:
        return len({key(facts) for facts in runs} - {None, ""}) >= at_least

    return Need(words, of_sweep=enough)


def each_of(words: str, key: Key, wanted: Iterable[object]) -> Need:
    """Runs at each of these values."""
    known = set(wanted)
    return Need(words, of_sweep=lambda runs: known <= {key(facts) for facts in runs})


def seeds(number: int) -> Need:
    """That many seeds of at least one setting."""

    def enough(runs: Sequence[Facts]) -> bool:
        found: dict[str, set[str]] = defaultdict(set)
        for facts in runs:
            found[facts.replicate].add(facts.seed)
        return any(len(each) >= number for each in found.values())

    return Need(f"{number} seeds of one setting", of_sweep=enough, replicates=True)
