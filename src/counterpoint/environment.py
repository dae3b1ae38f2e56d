"""What a run would run on: versions, devices and collectives; nothing of the environment's variables or folders."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

_PACKAGE = "counterpoint"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)[^;]*(?:;.*\bextra\s*==\s*[\"'](?P<extra>[\w-]+)[\"'])?")
_NOT_THERE = "not installed"


def version() -> str:
    """The version of the installed package."""
    return metadata.version(_PACKAGE)


def describe_environment() -> str:
    """A line for each fact, its name first. Loads torch."""
    facts = [*_packages(), *_torch()]
    width = max(len(name) for name, _value in facts)
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts)


def _packages() -> Iterator[tuple[str, str]]:
    yield _PACKAGE, version()
    yield "python", f"{platform.python_version()}, {sys.executable}"
    yield "platform", f"{platform.system()} {platform.release()}, {platform.machine()}"
    extras: dict[str, list[str]] = {}
    for requirement in metadata.requires(_PACKAGE) or ():
        found = _REQUIREMENT.match(requirement)
        assert found is not None, requirement
        if found["extra"] is None:
            yield found["name"], _version_of(found["name"])
        else:
            extras.setdefault(found["extra"], []).append(f"{found['name']} {_version_of(found['name'])}")
    for extra, packages in extras.items():
        yield f"extra {extra}", ", ".join(packages)


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _NOT_THERE


def _torch() -> Iterator[tuple[str, str]]:
    import torch
    import torch.distributed as dist

    yield "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"
    cuda = torch.version.cuda or torch.version.hip
    yield "cuda", "torch is built without it" if cuda is None else f"{cuda}, {_devices(torch.cuda.device_count())}"
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        gib = device.total_memory / 2**30
        yield f"cuda:{number}", f"{device.name}, {gib:.0f} GiB, compute capability {device.major}.{device.minor}"
    yield "gloo", "available" if dist.is_available() and dist.is_gloo_available() else "not available"
    yield "nccl", _nccl()


def _devices(number: int) -> str:
    return "1 device" if number == 1 else f"{number} devices"


def _nccl() -> str:
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_nccl_available()):
        return "not available"
    found: tuple[int, ...] = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
    return ".".join(map(str, found))
