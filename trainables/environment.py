"""What changes the last bits of a training besides its config: recorded, set, compared."""

from __future__ import annotations

import platform
from typing import Any

import torch

from trainables.config import RunConfig


def make_deterministic(config: RunConfig, num_threads: int) -> None:
    """Set every process-wide switch that a pass depends on, whatever ran before in this process.

    Strict mode, never warn_only: only strict mode switches attention to deterministic kernels.
    """
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    allow_tf32 = config.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32


def describe(device: torch.device, num_threads: int) -> dict[str, Any]:
    """The environment of a pass; two passes are comparable bit for bit only if it is equal."""
    return {
        "torch": torch.__version__,
        "device": device.type,
        "device_name": _device_name(device),
        "num_threads": num_threads,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
