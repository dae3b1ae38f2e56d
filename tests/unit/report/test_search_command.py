"""The command `search`: what it prints and writes, and where two configs differ in time."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from counterpoint import costs
from counterpoint.check.proof import check_plan
from counterpoint.config.load import load_config
from counterpoint.config.yaml_text import to_yaml
from counterpoint.costs.file import write_hardware
from counterpoint.errors import InputError
from counterpoint.report.search_command import show_comparison, show_search
from counterpoint.report.search_text import heterogeneity, why_slower
from counterpoint.search.difference import kinds_of
from counterpoint.search.find import SearchResult, Wish, compare, find
from counterpoint.setup.run import build_plan
from counterpoint.simulate.estimate import estimate
from tests.unit.search.worlds import PAIR

WISH = Wish(world_size=2, simulations=8, steps=1, top=3)


def _console() -> Console:
    return Console(file=io.StringIO(), width=100, soft_wrap=True, highlight=False)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A pair's config with comments."""
    file = tmp_path / "pair.yaml"
    lines = to_yaml(PAIR).splitlines()
    file.write_text("\n".join(["# A pair.", *(f"{line}  # {place}" for place, line in enumerate(lines))]) + "\n")
    return file


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return find(load_config(PAIR), (), WISH)


@pytest.mark.parametrize("memory", [0.0, -1.0, float("nan"), float("-inf"), float("inf")])
def test_memory_that_is_none_is_refused_before_the_search(memory: float) -> None:
    with pytest.raises(InputError, match=r"^memory_gib: got .*, expected a number of GiB above 0; correct it"):
        find(load_config(PAIR), (), replace(WISH, memory_gib=memory))


def test_the_winner_is_written_planned_and_proved(pair: Path, tmp_path: Path) -> None:
    console, out, data = _console(), tmp_path / "new" / "best.yaml", tmp_path / "found.json"
    overrides = ["training.steps=77", "modules.vision.layout.tp=2"]
    show_search(pair, overrides, WISH, out=out, json=data, console=console)
    text = out.read_text()
    first, second, *_rest = text.splitlines()
    assert re.match(
        r"# Found by counterpoint search for 2 ranks of H200 .* Comments below are those of pair.yaml\.", first
    )
    assert second == "# A pair."
    assert "# 3" in text
    config = load_config(out)
    assert (config.world.size, config.training.steps, config.modules["vision"].layout.tp) == (2, 77, 2)
    plan = build_plan(config)
    check_plan(plan)
    best = json.loads(data.read_text())["layouts"][0]
    assert best["modules"]["language"]["tp"] == plan.layouts["language"].tp
    batch = plan.batch(0, find(load_config(pair, overrides), overrides, WISH).work.steps[0])
    assert estimate(plan, costs.load("h200"), [batch]).seconds == pytest.approx(best["seconds"], rel=1e-9)
    assert f"{out}: written; next: counterpoint plan {out}" in _text(console).replace("\n", "")
    with pytest.raises(InputError, match=r"^--out .*best\.yaml: exists already, expected a new file"):
        show_search(pair, overrides, WISH, out=out, json=None, console=_console())


def test_it_says_what_was_pruned_and_what_its_figures_rest_on(pair: Path) -> None:
    console = _console()
    show_search(pair, [], WISH, out=None, json=None, console=console)
    text = " ".join(_text(console).split())
    for words in (
        "Layouts 2 ranks of H200", "layouts in the space", "candidates looked at", "too slow by a bound",
        "slower by a rough guess, which is no proof", "hardware: H200, ", "data: 1 drawn steps of 8 sequences",
        "no step was run",
    ):  # fmt: skip
        assert words in text
    assert max(map(len, _text(console).splitlines())) <= 100


def test_rows_say_why_they_are_slower_than_the_first(found: SearchResult) -> None:
    first, second, *_others = found.found.outcomes
    words = why_slower(first.score, second.score)
    assert words.startswith("+")
    changes = kinds_of(first.score.breakdown, second.score.breakdown)
    assert max(changes, key=lambda kind: abs(kind.more)).name in words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.8, "Pays: 1.25 x as fast as"),
        (0.995, "Makes no difference here: the best with one layout for all modules takes"),
        (1.0, "Makes no difference here"),
        (1.005, "Makes no difference here"),
        (1.25, "Does not pay here"),
    ],
)
def test_heterogeneity_pays_or_does_not_or_makes_no_difference(found: SearchResult, ratio: float, words: str) -> None:
    own, alike = found.found.heterogeneous, found.found.homogeneous
    assert own is not None
    assert alike is not None
    own = replace(own, score=replace(own.score, seconds=ratio * alike.score.seconds))
    outcomes = sorted((own, alike), key=lambda each: each.score.seconds)
    sentence = heterogeneity(replace(found, found=replace(found.found, outcomes=tuple(outcomes))))
    assert sentence.startswith(words)


def test_two_configs_differ_where_their_parts_do(pair: Path) -> None:
    slow = pair.with_name("slow.yaml")
    slow.write_text(to_yaml(load_config(PAIR, ["modules.language.recompute=full"]).resolved()))
    console = _console()
    show_comparison(pair, slow, ["run.dir=runs/one"], "h200", 1, console)
    text = " ".join(_text(console).split())
    assert re.search(
        r"slow\.yaml takes [\d.]+ m?s \([\d.]+%\) longer than .*pair\.yaml: compute of language takes", text
    )
    assert "modules.language.recompute" in text
    assert "run.dir" not in text
    configs = load_config(pair), load_config(slow)
    compared = compare(("a", "b"), configs, "h200", 1)
    first, second = compared.scores
    kinds = kinds_of(first.breakdown, second.breakdown)
    assert sum(kind.first for kind in kinds) == pytest.approx(first.seconds)
    assert sum(kind.second for kind in kinds) == pytest.approx(second.seconds)


def test_a_config_that_does_not_fit_is_named(pair: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.json"
    write_hardware(small, replace(costs.load("h200"), name="Small", memory_bytes=2**30))
    for hardware, count in (("h200", 0), (str(small), 2)):
        console = _console()
        show_comparison(pair, pair, [], hardware, 1, console)
        said = " ".join(_text(console).split())
        needs = r"pair\.yaml: it does not fit: the fullest rank needs [\d.]+ GiB of the 1\.0 GiB"
        assert len(re.findall(needs, said)) == count


def test_the_same_config_twice_takes_the_same_time(pair: Path) -> None:
    console = _console()
    show_comparison(pair, pair, [], "h200", 1, console)
    assert "take the same time" in " ".join(_text(console).split())


def test_wrong_input_is_said_in_a_sentence(pair: Path) -> None:
    for wish, words in (
        (Wish(hardware="h2000"), "expected one of a100, b200, h100, h200"),
        (Wish(fixed=("schedule.colour",)), "--fix: got"),
        (Wish(schedules=("1f2b",)), "--schedule: got"),
        (Wish(memory_gib=0.01), "use more ranks or more memory"),
    ):
        with pytest.raises(InputError, match=words):
            show_search(pair, [], wish, out=None, json=None, console=_console())


def test_a_config_with_a_byte_order_mark_is_rewritten_to_one_that_loads(pair: Path, tmp_path: Path) -> None:
    pair.write_text(pair.read_text(), encoding="utf-8-sig")
    out = tmp_path / "best.yaml"
    show_search(pair, [], WISH, out=out, json=None, console=_console())
    assert load_config(out).world.size == 2
