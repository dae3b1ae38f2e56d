"""What docs/python.md shows runs as it stands there, as a script of a user with ranks of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


LOOP = """
import counterpoint

for config in ["{root}/examples/language_only.yaml"]:
    counterpoint.{command}(config, ["run.dir=run"])
"""


@pytest.mark.parametrize("command", ["verify", pytest.param("train", marks=pytest.mark.more)])
def test_a_program_whose_ranks_would_start_ranks_is_told_so(tmp_path: Path, command: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(LOOP.format(root=ROOT, command=command))
    ran = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.count("Traceback") == 1
    assert ran.stderr.endswith(
        f'{script}: got a call that starts ranks outside of `if __name__ == "__main__":`, expected it inside, since '
        "ranks are processes that import this file again; move it there\n"
    )


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), flags=re.DOTALL)
    script = tmp_path / "script.py"
    script.write_text("\n".join(blocks).replace('"examples/', f'"{ROOT}/examples/'))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "2 ranks, idle " in ran.stdout
    # The third step asks while the fourth runs, the fifth carries the wish, and the sixth runs when all have heard it.
    assert "stopped after step 6\n" in ran.stdout
    assert ran.stdout.count("saved runs/from_python/checkpoints/") == 1
