"""What is named and found when it is asked for."""

import subprocess
import sys

import pytest

from counterpoint.kinds.named import named
from counterpoint.plan.samples import Item


def test_an_object_is_found_by_its_place() -> None:
    assert named("counterpoint.plan.samples:Item") is Item


@pytest.mark.parametrize("place", ["counterpoint.plan.samples:Nothing", "counterpoint.nowhere:Item"])
def test_a_wrong_place_is_an_error_of_the_package(place: str) -> None:
    with pytest.raises((AttributeError, ImportError)):
        named(place)


def test_its_module_is_loaded_by_the_first_call() -> None:
    code = (
        "import sys; from counterpoint.modalities import MODALITIES; from counterpoint.kinds.named import named\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "for one in MODALITIES.values(): named(one.rows)\n"
        "sys.exit('torch' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
