"""Compare the losses of two runs step by step: `compare_losses.py A B [TOLERANCE] [STEPS]`, two metrics.jsonl files.

Leaves with 3 if a relative difference within the first STEPS steps (all) is above TOLERANCE (1e-4).
"""

import json
import sys
from pathlib import Path


def losses(path: str) -> dict[int, float]:
    """Training losses by step, the mixtures' balance loss included."""
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {
        record["step"]: record["loss"] + record.get("balance_loss", 0.0) for record in records if "modules" in record
    }


def main() -> None:
    """Print the relative difference at every common step."""
    a, b = losses(sys.argv[1]), losses(sys.argv[2])
    tolerance = float(sys.argv[3]) if len(sys.argv) > 3 else 1e-4
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else max(a)
    worst = 0.0
    for step in sorted(a.keys() & b.keys()):
        difference = abs(a[step] - b[step]) / abs(a[step])
        worst = max(worst, difference if step <= steps else 0.0)
        sys.stdout.write(f"step {step:6d}  {a[step]:.7f}  {b[step]:.7f}  {difference:.1e}\n")
    sys.stdout.write(f"worst relative difference up to step {steps}: {worst:.1e}\n")
    sys.exit(3 if worst > tolerance else 0)


if __name__ == "__main__":
    main()
