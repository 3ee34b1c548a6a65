"""How long 100 MB of WikiText take: read, indexed and cached, and started again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.harness import Spread, print_table, run_python

pytestmark = pytest.mark.benchmark

NUM_BYTES = 100_000_000
NUM_WORDS = 100_000
"""Words to draw from, by Zipf's law: about what 20 million words of WikiText-103 hold."""

LOAD = """
import resource, time
from pathlib import Path
from trainables.data.wikitext import WikiText103
start = time.perf_counter()
data = WikiText103().load(Path())
spent = time.perf_counter() - start
print(spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, len(data.train.tokens))
"""
"""Loads the data set of the folder it runs in; prints seconds without imports, GiB and words."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training split of 100 MB of lines of 60 words, every other one blank."""
    folder = tmp_path_factory.mktemp("text")
    draw = np.random.default_rng(0)
    odds = 1 / np.arange(1, NUM_WORDS + 1)
    words = np.array([f"word{number}" for number in range(NUM_WORDS)])
    block = words[draw.choice(NUM_WORDS, size=60 * 10_000, p=odds / odds.sum())].reshape(-1, 60)
    text = "".join(f" {' '.join(line)} \n\n" for line in block)
    (folder / "wikitext-103").mkdir()
    with (folder / "wikitext-103" / "wiki.train.tokens").open("w") as file:
        for _ in range(-(-NUM_BYTES // len(text))):
            file.write(text)
    for split in ("valid", "test"):
        (folder / "wikitext-103" / f"wiki.{split}.tokens").write_text(text[:1_000_000])
    return folder


def test_indexing_and_starting_again(root: Path) -> None:
    first = [float(value) for value in run_python(["-c", LOAD], root).stdout.split()]
    again = [
        [float(value) for value in run_python(["-c", LOAD], root).stdout.split()] for _ in range(5)
    ]
    print_table(
        f"A WikiText file of {NUM_BYTES / 1e6:.0f} MB, {first[2] / 1e6:.1f} million words",
        ["what", "seconds", "limit", "GiB at most", "limit"],
        [
            ["read, indexed and cached", f"{first[0]:.1f}", "< 60", f"{first[1]:.2f}", "< 1.86"],
            [
                "loaded by another process",
                Spread.of([values[0] for values in again]).show(),
                "< 2",
                f"{max(values[1] for values in again):.2f}",
                "",
            ],
        ],
        "Without imports; memory is the whole process's, torch among it.",
    )
