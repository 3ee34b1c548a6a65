"""Fixtures of the benchmarks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tests.benchmarks.harness import NUM_THREADS
from trainables.config import RunConfig
from trainables.environment import make_deterministic


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest) -> None:
    """Refuse to time beside other tests."""
    if request.node.get_closest_marker("benchmark") and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.fail("timings need the machine alone: pytest -m benchmark -s -n 0", pytrace=False)


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device there is, set up as a worker sets itself up, on two threads."""
    threads = torch.get_num_threads()
    make_deterministic(RunConfig(), NUM_THREADS)
    yield torch.device(request.param)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
