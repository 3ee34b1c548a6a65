"""Ray for the time of one command: what it is given, its signals, and that nothing outlives it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.errors import UserError

LOCAL = "local"
"""The address that starts a Ray of our own, and never joins one that happens to run."""
AUTO = "auto"
"""The address of the cluster that this machine is part of."""
ADDRESS_SECONDS = 5.0
"""Patience with a cluster's address; ours."""

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a report costs 1.5 ms instead of 6 (FACTS 1.6)
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's swallows Ctrl-C (FACTS 0.11)
}

LAUNCH_MARK = "OPTPATH_LAUNCH"
"""Environment variable by which the processes that descend from a launch are found."""

LINGER_SECONDS = 2.0
"""How long Ray's processes may take to end by themselves; ours."""


@dataclass(frozen=True)
class Resources:
    """What a run is given, and how many run at once."""

    cpus_per_run: int = 1
    gpus_per_run: float = 0.0
    max_concurrent: int | None = None


@dataclass(frozen=True)
class Launch:
    """Where a plan is launched."""

    storage: Path
    data_root: Path
    address: str = LOCAL
    resources: Resources = Resources()
    tracking: bool = True


def check_launch(launch: Launch) -> None:
    """Refuse what no machine can give, or this one, and where nobody answers; raises UserError."""
    resources = launch.resources
    if resources.gpus_per_run > 1:
        raise UserError("--gpus-per-run: a run trains on one GPU at most; give 1 or a fraction")
    if launch.address != LOCAL:
        _check_address(launch.address)  # what its nodes have is asked once connected
        return
    cores = os.cpu_count() or 1
    if resources.cpus_per_run > cores:
        raise UserError(f"--cpus-per-run: {resources.cpus_per_run} asked, {cores} cores are here")
    if resources.gpus_per_run > 0:
        import torch

        if not torch.cuda.is_available():
            raise UserError("--gpus-per-run: no GPU is here; leave it out to train on the CPU")


def _check_address(address: str) -> None:
    """Ray itself would wait for minutes for a cluster that is not there."""
    if address == AUTO:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(
            f"--address {address}: give HOST:PORT as `ray start --head` printed it, from a machine "
            f"of the cluster, or {AUTO} on its head"
        )
    try:
        socket.create_connection((host, int(port)), ADDRESS_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers ({error}); start one with: ray start "
            "--head, or leave --address out"
        ) from None


def scratch(launch: Launch) -> tempfile.TemporaryDirectory[str]:
    """A folder for Tune's own files; on a cluster the storage is what all nodes share."""
    parent = None if launch.address == LOCAL else launch.storage
    # a killed actor may write for some seconds more
    return tempfile.TemporaryDirectory(
        prefix=".optpath-tune-", dir=parent, ignore_cleanup_errors=True
    )


@contextlib.contextmanager
def ray_session(launch: Launch, signals: Signals) -> Iterator[None]:
    """Ray for the time of a launch; none of its processes outlives the block."""
    os.environ.update({k: v for k, v in RAY_ENVIRONMENT.items() if k not in os.environ})
    import ray

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _no_survivors():
        try:
            _start(launch, signals)
            yield
        finally:
            signals.hold()
            ray.shutdown()


@contextlib.contextmanager
def _no_survivors() -> Iterator[None]:
    """End what descends from this block and outlives it: Ray's agents do, by seconds."""
    import psutil

    mark = uuid.uuid4().hex
    os.environ[LAUNCH_MARK] = mark

    def marked() -> Iterator[Any]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # ended, or somebody else's
                if process.environ().get(LAUNCH_MARK) == mark:
                    yield process

    try:
        yield
    finally:
        del os.environ[LAUNCH_MARK]
        _, alive = psutil.wait_procs(marked(), LINGER_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, LINGER_SECONDS)


def _start(launch: Launch, signals: Signals) -> None:
    import ray

    options: dict[str, Any] = {"runtime_env": {"py_modules": _packages()}}
    if launch.address == LOCAL:
        options = {"include_dashboard": False}
        signals.hold()  # a start that is broken off leaves processes behind
    try:
        ray.init(address=launch.address, log_to_driver=False, configure_logging=False, **options)
        signals.install()  # in place of Ray's own, before anything else
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"--address {launch.address}: Ray cannot join ({str(error).splitlines()[0]}); if the "
            "cluster asks for a token, set RAY_AUTH_MODE=token"
        ) from None
    except SystemExit:  # SIGTERM under the handler that ray.init installs
        raise KeyboardInterrupt from None
    except Exception as error:
        if type(error) is not Exception:  # no class of its own for a node that is late (ray 2.60)
            raise
        reason = str(error).partition(".")[0]
        raise UserError(
            f"Ray did not start on this machine: {reason}; it gives itself 30 seconds, which may "
            "be few where much else runs: type the same command again"
        ) from None
    signals.listen()
    _check_cluster(launch)


def _check_cluster(launch: Launch) -> None:
    """Tune would wait for ever, and say nothing, for what no node has."""
    import ray

    resources = launch.resources
    asked = {"CPU": resources.cpus_per_run, "GPU": resources.gpus_per_run}
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    for name, amount in asked.items():
        most = max(node["Resources"].get(name, 0) for node in nodes if node["Alive"])
        if amount > most:
            option = f"--{name.lower()}s-per-run"
            raise UserError(f"{option}: {amount:g} asked, no node of Ray has more than {most:g}")


def _packages() -> list[str]:
    """Our packages' folders, which a running cluster's nodes need not have installed."""
    house = Path(__file__).resolve().parents[1]
    return [str(house / name) for name in ("geometry", "trainables", "sweeps", "analysis")]


class Signals:
    """SIGINT and SIGTERM as KeyboardInterrupt at checks, in spite of Ray's own handlers."""

    def __init__(self) -> None:
        self._asked = False
        self._held = False

    def __enter__(self) -> Signals:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.getsignal(number) for number in numbers}
        self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self._asked:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Only take note of signals from here on."""
        self._held = True

    def listen(self) -> None:
        """Raise at checks again, also for what came in the meantime."""
        self._held = False
        self.check()

    def check(self) -> None:
        """Raise if a signal came.

        Not in the handler: that can break off an import, which then holds the import lock for good,
        and every other thread that imports waits for ever.
        """
        if self._asked and not self._held:
            raise KeyboardInterrupt

    def install(self) -> None:
        """Take the signals from whoever has them."""
        for number in self._before:
            signal.signal(number, self._take)

    def _take(self, number: int, frame: object) -> None:
        self._asked = True
