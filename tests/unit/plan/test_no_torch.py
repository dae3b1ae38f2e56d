"""Plans are computed, proved and simulated without torch, and a run is prepared so far before it is imported."""

import subprocess
import sys

PURE = (
    "counterpoint.check.proof",
    "counterpoint.cli",
    "counterpoint.run",
    "counterpoint.setup.run",
    "counterpoint.check.grid",
    "counterpoint.simulate.clock",
    "counterpoint.simulate.memory",
)


def test_plan_check_and_simulate_load_no_torch() -> None:
    code = f"import sys, {', '.join(PURE)}; assert 'torch' not in sys.modules, 'torch was loaded'"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
