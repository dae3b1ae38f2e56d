"""The public names and their signatures, which nothing adds to, takes from or changes by accident."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import counterpoint

FUNCTIONS = {
    "build_plan": "(config: Config) -> Plan",
    "calibrate": (
        "(out: str | Path, *, device: str | None = None, ranks: int | None = None, quick: bool = False, "
        "fill_from: str | None = None, force: bool = False) -> 'Hardware | None'"
    ),
    "check_plan": "(plan: Plan, batch: BatchPlan | None = None, ahead: BatchPlan | None = None) -> Proof",
    "data_info": (
        "(folder: str | Path, *, config: str | Path | None = None, sequence_tokens: int | None = None) -> 'DataInfo'"
    ),
    "data_lint": (
        "(folder: str | Path, *, sample: int | None = None, config: str | Path | None = None, sequence_tokens: int | "
        "None = None) -> 'Lint'"
    ),
    "data_preview": (
        "(folder: str | Path, out: str | Path, *, config: str | Path | None = None, samples: int = 20, seed: int = 0, "
        "split: str | None = None) -> Path"
    ),
    "diff": "(a: str | Path, b: str | Path) -> 'Difference'",
    "evaluate": (
        "(run: str | Path | Run, *, split: str | None = None, step: int | None = None, max_tokens: int | None = None, "
        "temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> 'Evaluation'"
    ),
    "export": (
        "(run: str | Path | Run, out: str | Path, *, step: int | None = None, dtype: str | None = None, "
        "module: str | None = None, base: str | Path | None = None, ranks: int | None = None) -> 'Exported'"
    ),
    "generate": (
        "(run: str | Path | Run, prompts: str | Sequence[str] = '', *, images: Sequence[str | Path] = (), "
        "system: str = '', step: int | None = None, max_tokens: int | None = None, temperature: float = 0.0, "
        "top_p: float = 1.0, seed: int = 0, format: str | None = None) -> list[str]"
    ),
    "import_model": "(folder: str | Path, *, world_size: int = 1, memory_gib: float = 80.0) -> 'ImportedModel'",
    "inspect": "(path: str | Path, *, verify: bool = False) -> 'Inspection'",
    "load_config": "(source: str | Path | Mapping[str, object] | Config, overrides: Sequence[str] = ()) -> Config",
    "measure_rows": (
        "(elements: Iterable[Any], row: Callable[..., object], *, tokenizer: str | Path | None = None, files: str | "
        "Path | None = None, chat: str = 'plain') -> list[SampleSize]"
    ),
    "open_run": "(folder: str | Path) -> Run",
    "register_module": (
        "(name: str, build: Callable[[Mapping[str, Any]], 'Module'], *, tensor_rules: Mapping[str, Literal['outputs', "
        "'inputs']] = mappingproxy({}), initial: Mapping[str, tuple[float, float]] = mappingproxy({}), weights: "
        "'Callable[[Options], Mapping[str, Tensor]] | None' = None) -> None"
    ),
    "register_schedule": "(name: str, builder: Callable[[Stages, int], Schedule]) -> None",
    "register_source": "(name: str, build: Callable[[str, Mapping[str, Any]], Dataset]) -> None",
    "search": (
        "(source: str | Path | Mapping[str, object] | Config, overrides: Sequence[str] = (), *, world_size: int | None "
        "= None, hardware: str = 'H200', memory_gib: float | None = None, top: int = 5, fixed: Sequence[str] = (), "
        "schedules: Sequence[str] = (), steps: int = 2, simulations: int | None = None) -> 'SearchResult'"
    ),
    "simulate": (
        "(plan: Plan, batch: BatchPlan | None = None, costs: Callable[[int, Compute], float] | None = None, "
        "durations: Callable[[int, Exchange | Collective], float] | None = None) -> Timeline"
    ),
    "train": (
        "(source: str | Path | Mapping[str, object] | Config, overrides: Sequence[str] = (), *, callbacks: "
        "'Sequence[Callback]' = (), port: int = 0) -> Run"
    ),
    "verify": (
        "(source: str | Path | Mapping[str, object] | Config, overrides: Sequence[str] = (), *, "
        "dtype: str = 'float64') -> 'CaseResult'"
    ),
}
OTHERS = {
    "Callback", "Config", "CounterpointError", "EvaluationContext", "MapDataset", "Plan", "Run", "SampleItem",
    "SampleSize", "Samples", "SaveContext", "Source", "StepContext", "StreamDataset", "TokenRow",
}  # fmt: skip
CONTEXTS = {
    "StepContext": {"loss", "gradient_norm", "learning_rates"},
    "EvaluationContext": {"split", "loss"},
    "SaveContext": {"checkpoint"},
}


def test_public_names() -> None:
    assert set(counterpoint.__all__) == OTHERS | FUNCTIONS.keys()
    assert set(dir(counterpoint)) >= set(counterpoint.__all__)
    for name in counterpoint.__all__:
        assert getattr(counterpoint, name) is not None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures(name: str) -> None:
    function = getattr(counterpoint, name)
    assert inspect.getdoc(function)
    assert _plain(str(inspect.signature(function))) == FUNCTIONS[name]


def _plain(signature: str) -> str:
    """Without the modules of types."""
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", signature)


@pytest.mark.parametrize("name", CONTEXTS)
def test_what_callbacks_are_told(name: str) -> None:
    fields = set(getattr(counterpoint, name).__dataclass_fields__)
    assert fields == CONTEXTS[name] | {"run", "rank", "step", "steps", "_request_stop"}


def test_type_checkers_see_what_there_is() -> None:
    tree = ast.parse(Path(counterpoint.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    homes = dict(counterpoint._HOMES)
    assert seen.keys() == set(counterpoint.__all__)
    assert {name: seen[name] for name in homes} == homes


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = import_module("counterpoint").nothing
