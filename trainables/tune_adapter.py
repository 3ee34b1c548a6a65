"""The Ray Tune trainable: one trial is one trajectory with its open runs."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import ray
import torch
from ray import tune

from trainables.store import Store
from trainables.tracker import Tracker
from trainables.worker import Worker, WorkOrder

TRACKER_SECONDS = 2.0
"""How long an actor that ends waits for its last uploads; the driver syncs what is left."""

PARENT_CHECK_SECONDS = 0.5
"""How often an actor looks whether its raylet is still there; ours, untuned."""


class TrajectoryTrainable(tune.Trainable):
    """Does the order under the key `order`; an actor is reused for the next order.

    It keeps no checkpoint of Tune's: the store is what a retried trial resumes from.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Called by Tune once per actor."""
        end_with_parent()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune to reuse the actor: everything but the tracker is rebuilt."""
        self._worker.close()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        order = WorkOrder(**config["order"])
        if not hasattr(self, "_tracker"):
            self._tracker = Tracker(order.sweep, Store(order.storage), config["tracking"])
        self._worker = Worker(order, device_of(config["gpu_fraction"]), self._tracker)

    def step(self) -> dict[str, Any]:
        """Called by Tune until the report says done."""
        return self._worker.advance().plain()

    def cleanup(self) -> None:
        """Called by Tune when the actor ends in order."""
        self._worker.close()
        self._tracker.close(TRACKER_SECONDS)


def device_of(gpu_fraction: float) -> torch.device:
    """The GPU that Ray allotted, capped to its share of memory, else the CPU.

    Ray hides no GPU from an actor that was given none, so what is visible does not count.
    """
    if not ray.get_gpu_ids():
        return torch.device("cpu")
    if gpu_fraction < 1:
        torch.cuda.set_per_process_memory_fraction(gpu_fraction, 0)
    return torch.device("cuda", 0)


def end_with_parent() -> None:
    """End this process when its raylet is gone: an orphan must not write to the store."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
