"""Compare the losses of two metrics.jsonl files step by step: `compare_losses.py A B`; leaves with 3 above 1e-4."""

import json
import sys
from pathlib import Path


def losses(path: str) -> dict[int, float]:
    """Training losses by step."""
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {record["step"]: record["loss"] for record in records if "modules" in record}


def main() -> None:
    """Print the relative difference at every common step."""
    a, b = losses(sys.argv[1]), losses(sys.argv[2])
    worst = 0.0
    for step in sorted(a.keys() & b.keys()):
        difference = abs(a[step] - b[step]) / abs(a[step])
        worst = max(worst, difference)
        sys.stdout.write(f"step {step:6d}  {a[step]:.7f}  {b[step]:.7f}  {difference:.1e}\n")
    sys.stdout.write(f"worst relative difference {worst:.1e}\n")
    sys.exit(3 if worst > 1e-4 else 0)


if __name__ == "__main__":
    main()
