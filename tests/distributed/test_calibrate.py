"""`calibrate` on ranks that it starts, as a user starts it."""

import subprocess
import sys
from pathlib import Path

import pytest

from counterpoint import costs
from counterpoint.costs.hardware import COLLECTIVES, Hardware
from counterpoint.costs.host import FIGURES


def _calibrated(file: Path, *arguments: str) -> Hardware:
    """The hardware of the file that the command writes; its last line names the file."""
    command = [sys.executable, "-m", "counterpoint.cli", "calibrate", "--device", "cpu", "--out", str(file), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1].startswith(f"{file}: written; next: counterpoint plan CONFIG --hardware")
    return costs.load(file)


def _is_whole(hardware: Hardware, ranks: int) -> bool:
    assert hardware.missing == {"network": "one node"}
    assert (hardware.source, hardware.device, hardware.ranks_per_node) == ("measured", "cpu", ranks)
    assert set(hardware.collectives) == set(COLLECTIVES)
    assert 0 < hardware.alone <= 1
    for dtype in hardware.products:
        assert hardware.product(64, 64, 64, dtype) > 0
        assert hardware.attention(64 * 32, 64, 2, 32, dtype, True) > 0
        assert hardware.scan(64, 2, 8, 8, dtype, False) > 0
        assert hardware.grouped_product(2, 64, 32, 32, dtype) > 0
    assert hardware.transfer(2**16) > 0
    assert {*hardware.host.measured()} == {*FIGURES} - {"compiled_kernel", "exchange"}
    return hardware.collective("all_reduce", 2**16, ranks) > 0


@pytest.mark.more
def test_two_ranks_measure_this_machine(tmp_path: Path) -> None:
    assert _is_whole(_calibrated(tmp_path / "mine.json", "--ranks", "2", "--quick"), 2)


@pytest.mark.more
def test_four_ranks_measure_all_sizes_and_fill_a_file(tmp_path: Path) -> None:
    whole = _calibrated(tmp_path / "four.json", "--ranks", "4")
    assert _is_whole(whole, 4)
    assert set(whole.products) == {"float32", "float64", "bfloat16"}
    alone = _calibrated(tmp_path / "one.json", "--ranks", "1", "--quick", "--fill-from", str(tmp_path / "four.json"))
    assert alone.missing == {"network": "one node"}
    assert {"transfers", "products.bfloat16", *(f"collectives.{kind}" for kind in COLLECTIVES)} <= set(alone.filled)
    assert alone.collectives == whole.collectives
