"""What a benchmark ran on and with: libraries, GPUs and options, as JSON shows them."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_FAST = (
    "triton",
    "flash-attn",
    "flash-attn-4",
    "quack-kernels",
    "nvidia-cudnn-frontend",
    "nvidia-cutlass-dsl",
    "numpy",
)
"""Packages that change how fast ours is, where they are installed."""


def versions() -> dict[str, Any]:
    """What ran it."""
    known: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        nccl = ".".join(str(part) for part in torch.cuda.nccl.version())
        known |= {"gpu": torch.cuda.get_device_name(), "nccl": nccl, "cudnn": torch.backends.cudnn.version()}
    return known


def packages() -> dict[str, str]:
    """The versions of installed packages with fast kernels."""
    found = {}
    for name in _FAST:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def gpu_names() -> list[str]:
    """The GPUs of this machine."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def public_options(options: Mapping[str, Any]) -> dict[str, str]:
    """Options of a call as JSON shows them: without paths of the machine."""
    return {key: str(value) for key, value in options.items() if not isinstance(value, Path) and value is not None}
