"""How many sends and receives fit into one coalesced group: NCCL's guide says 2,048, older ones 256; which is real?

    torchrun --nproc-per-node=2 benchmarks/group_bounds.py [--most 4096] [--elements 256] [--json FILE]

With groups of 64, 128, 254, 256, ... operations, half of them sends, each rank exchanges numbered tensors with all
others in turn, by one `batch_isend_irecv`, and looks whether every one arrived. Each size is named before it is tried;
then the line says whether it was right or what was raised, and how long it took (median of 5, of the slowest rank).
What hangs is ended by torch's own time limit, so the last size that is named is the one. Exit codes: 2 for a wrong
call, 3 if values were wrong.
"""

import argparse
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

SIZES = (64, 128, 254, 256, 258, 512, 1024, 2046, 2048, 2050, 3072, 4096, 8192, 16384)
WRONG_CALL, WRONG_VALUES = 2, 3
ROUNDS, LIMIT = 5, timedelta(seconds=60)


def exchange(operations: int, elements: int, device: torch.device) -> bool:
    """One group of so many operations; whether all that arrived is what was sent."""
    rank, size = dist.get_rank(), dist.get_world_size()
    peers = [peer for peer in range(size) if peer != rank]
    half = operations // 2 // len(peers) * len(peers)
    targets = [peers[number % len(peers)] for number in range(half)]
    # The number-th tensor between two ranks is a multiple of its number and of its sender's.
    sends = [torch.full((elements,), float(rank * half + n), device=device) for n in range(half)]
    receives = [torch.empty(elements, device=device) for _ in range(half)]
    posts = [dist.P2POp(dist.isend, tensor, peer) for tensor, peer in zip(sends, targets, strict=True)]
    posts += [dist.P2POp(dist.irecv, tensor, peer) for tensor, peer in zip(receives, targets, strict=True)]
    for work in dist.batch_isend_irecv(posts):
        work.wait()
    arrived = [float(tensor[0]) for tensor in receives]
    return arrived == [expected(peer, rank, place, size, half) for peer, place in counted(targets)]


def counted(targets: list[int]) -> list[tuple[int, int]]:
    """Each peer with how often it came before."""
    seen: dict[int, int] = {}
    places = []
    for peer in targets:
        places.append((peer, seen.get(peer, 0)))
        seen[peer] = seen.get(peer, 0) + 1
    return places


def expected(peer: int, rank: int, place: int, size: int, half: int) -> float:
    """What a peer sends as its place-th tensor to this rank."""
    others = [other for other in range(size) if other != peer]
    return float(peer * half + others.index(rank) + place * len(others))


def measure(operations: int, elements: int, device: torch.device) -> dict[str, Any]:
    """What became of groups of one size."""
    is_right, seconds = True, []
    try:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            is_right = exchange(operations, elements, device) and is_right
            seconds.append(time.perf_counter() - began)
    except (RuntimeError, ValueError) as error:
        return {"operations": operations, "raised": str(error).splitlines()[0]}
    slowest = torch.tensor([sorted(seconds)[ROUNDS // 2], float(not is_right)], device=device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    median, is_wrong = slowest.tolist()
    return {"operations": operations, "right": not is_wrong, "milliseconds": 1e3 * median}


def arguments() -> argparse.Namespace:
    """The options; leaves with 2 for a wrong call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=4096, help="the largest group")
    parser.add_argument("--elements", type=int, default=256, help="float32 elements of each tensor")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size = os.environ.get("WORLD_SIZE")
    if size is None or int(size) < 2:
        fault = f"WORLD_SIZE: got {size or 'nothing'} in the environment, expected at least 2; start it with torchrun"
    elif options.most < SIZES[0]:
        fault = f"--most: got {options.most}, expected at least {SIZES[0]}; raise it"
    elif options.elements < 1:
        fault = f"--elements: got {options.elements}, expected at least 1; raise it"
    else:
        return options
    print(f"error: {fault}", file=sys.stderr)
    sys.exit(WRONG_CALL)


def main() -> int:
    """Try one size after the other and say which were right."""
    options = arguments()
    has_gpus = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpus else torch.device("cpu")
    if has_gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if has_gpus else "gloo", timeout=LIMIT)
    is_leader = dist.get_rank() == 0
    dist.all_reduce(torch.zeros(1, device=device))
    results = []
    for operations in (size for size in SIZES if size <= options.most):
        if is_leader:
            print(f"{operations} operations ... ", end="", flush=True)
        results.append(measure(operations, options.elements, device))
        if is_leader:
            print(", ".join(f"{key} {value}" for key, value in results[-1].items() if key != "operations"), flush=True)
        if "raised" in results[-1]:
            break
    right = [result["operations"] for result in results if result.get("right")]
    if is_leader:
        print(f"right up to {max(right, default=0)} operations, of {results[-1]['operations']} tried")
        if options.json is not None:
            options.json.write_text(json.dumps({"ranks": dist.get_world_size(), "results": results}, indent=1))
    dist.destroy_process_group()
    return WRONG_VALUES if any(not result.get("right", True) for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
