"""Which machine this is."""

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

_PACKAGES = ("counterpoint", "triton", "flash-attn-4")
_WORDS_WITHOUT_MEANING = ("NVIDIA", "Tesla", "(R)", "(TM)", "CPU")


def name_of(device: torch.device) -> str:
    """What its maker calls it, such as H200."""
    said = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    for word in _WORDS_WITHOUT_MEANING:
        said = said.replace(word, "")
    return " ".join(said.split())[:40] or device.type


def memory_of(device: torch.device, ranks_per_node: int) -> int:
    """Bytes that one rank may use: those of its GPU, or its share of the host's."""
    if device.type == "cuda":
        total: int = torch.cuda.get_device_properties(device).total_memory
        return total
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks_per_node


def versions(device: torch.device) -> dict[str, str]:
    """Versions of what the figures depend on, and the processors."""
    return dict(_versions(device))


def _versions(device: torch.device) -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "torch", torch.__version__
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "cores", f"{os.cpu_count()} of {_processor()}"[:120]
    yield "threads of a rank", str(torch.get_num_threads())
    if device.type == "cuda":
        yield "cuda", str(torch.version.cuda)
        yield "nccl", ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
