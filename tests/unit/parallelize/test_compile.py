"""Where compiled functions are kept, what they are counted as, and what is said of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from counterpoint.parallelize.compile import CACHE_VARIABLE, CompileClock, compilations, keep_compiled
from counterpoint.train.metrics.compiled import Compiled, values_of, words_of

HOME = "XDG_CACHE_HOME"


@pytest.mark.parametrize("before", [{}, {CACHE_VARIABLE: default_cache_dir()}], ids=["unset", "set by torch itself"])
def test_it_is_kept_in_the_users_cache(tmp_path: Path, before: dict[str, str]) -> None:
    environment = before | {HOME: str(tmp_path)}
    keep_compiled(environment)
    assert environment[CACHE_VARIABLE] == str(tmp_path / "counterpoint" / "compiled")
    assert Path(environment[CACHE_VARIABLE]).is_dir()


def test_a_folder_that_the_environment_names_stays(tmp_path: Path) -> None:
    environment = {CACHE_VARIABLE: "/scratch/compiled", HOME: str(tmp_path)}
    keep_compiled(environment)
    assert environment[CACHE_VARIABLE] == "/scratch/compiled"
    assert not any(tmp_path.iterdir())


def test_where_nothing_can_be_written_torch_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    environment = {HOME: str(tmp_path / "file")}
    keep_compiled(environment)
    assert CACHE_VARIABLE not in environment


@pytest.fixture
def compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("compiler")
def test_every_variant_is_counted_and_timed() -> None:
    def doubled(rows: torch.Tensor) -> torch.Tensor:
        return rows * 2

    function, clock, before = torch.compile(doubled, backend="eager"), CompileClock(), compilations()
    with clock.running():
        for rows in (2, 2, 3, 4):
            function(torch.ones(rows))
    # One for the first size, one for any.
    assert compilations() - before == 2
    assert clock.seconds > 0
    known = clock.seconds
    function(torch.ones(2, dtype=torch.float64))
    assert compilations() - before == 3
    assert clock.seconds == known


def test_what_ranks_compiled_is_told_together() -> None:
    ranks = [
        Compiled({"vision": {"EncoderLayer"}}, 4, 12.34),
        Compiled({"language": {"MlpLayer", "AttentionLayer"}}, 7, 5.0),
        Compiled({"language": {"LinearLoss"}}, 2, 1.0),
    ]
    values = values_of(ranks)
    language = ["AttentionLayer", "LinearLoss", "MlpLayer"]
    kinds = {"vision": ["EncoderLayer"], "language": language}
    assert values == {"compiled": kinds, "compiled_functions": 7, "compile_seconds": 12.34}
    assert words_of(values, "/cache") == (
        "compiled vision: EncoderLayer; language: AttentionLayer, LinearLoss, MlpLayer: 7 functions in 12.3 s, kept in "
        "/cache"
    )
