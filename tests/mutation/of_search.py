"""Faults of the search for a layout."""

from tests.mutation.mutant import Mutant

_S = "tests/unit/search/"
_WHOLE, _BOUNDS, _SPACE, _FOOTPRINT, _DIFFERENCE = (
    (f"{_S}test_{name}.py",) for name in ("whole_space", "bounds", "space", "footprint", "difference")
)
_SHORTLIST = (f"{_S}test_shortlist.py",)
_HELD = (f"{_S}test_held.py",)
_COMMAND, _WORDS = (("tests/unit/report/test_search_command.py",), ("tests/unit/report/test_words.py",))
_OPTIONS, _PLAN = (("tests/unit/cli/test_search.py",), ("tests/unit/report/test_plan_command.py",))

SEARCH = [
    Mutant("search.bounds:Bounds.seconds", "/ len(choice.ranks)", "/ choice.degrees.pp", _BOUNDS),
    Mutant("search.bounds:Bounds.module_bytes", "dense.kept / (tp * shards)", "dense.kept / tp", _BOUNDS),
    Mutant(
        "search.bounds:Bounds._of_parts", "made.inputs if any(trained[: number + 1]) else ()", "made.inputs", _BOUNDS
    ),
    Mutant("search.bounds:Bounds._launches", "filled * kernels", "candidate.schedule.microbatches * kernels", _BOUNDS),
    Mutant("search.footprint:Footprints._ends", "later + held.gradients", "later", _FOOTPRINT),
    Mutant("search.footprint:Footprints.memory_bytes", "choice.recompute, candidate", "candidate", _FOOTPRINT),
    Mutant(
        "search.footprint:Footprints.memory_bytes",
        "choice.recompute, candidate.schedule, after",
        "choice.recompute, after",
        _FOOTPRINT,
    ),
    Mutant("search.shortlist:Shortlist._combine", "key >= best[-1][0]", "1.01 * key >= best[-1][0]", _SHORTLIST),
    Mutant("search.second:_can_fork", ' and "torch" not in sys.modules', "", (f"{_S}test_second.py",)),
    Mutant("search.second:_can_fork", " and not current_process().daemon", "", (f"{_S}test_second.py",)),
    Mutant("search.second:_answer", "suppress(CounterpointError)", "suppress(TimeoutError)", (f"{_S}test_second.py",)),
    Mutant("search.second:_answer", "suppress(OSError, EOFError)", "suppress(EOFError)", (f"{_S}test_second.py",)),
    Mutant("search.second:_uninterrupted", "signal.raise_signal(signal.SIGINT)", "pass", (f"{_S}test_second.py",)),
    Mutant(
        "search.second:Second.score",
        "figures = dict(zip(range(0, count, 2)",
        "figures = dict(zip(range(1, count, 2)",
        (f"{_S}test_second.py",),
    ),
    Mutant(
        "search.second:Second._ended",
        "except (OSError, EOFError):",
        "except BlockingIOError:",
        (f"{_S}test_second.py",),
    ),
    Mutant("search.walk:Walk._try", "> self._limit() * _SLACK", "> 0.5 * self._limit()", _WHOLE),
    Mutant("search.space:Space._holds", "value) == value", "value) is not None", _SPACE),
    Mutant("search.space:Space.first_schedule", "(kind != _FIRST, SCHEDULES[kind].needs_chunks)", "0", _SPACE),
    Mutant("search.space:Space._least_chunks", "wanted[module == self._chunked :]", "wanted", _SPACE),
    Mutant("search.space:Space._keeps_split", "degrees.pp * degrees.chunks", "degrees.pp", _HELD),
    Mutant("search.space:Space._cuts", "self.refused[BATCH] += 1", "pass", _SPACE),
    Mutant("search.walk:Walk._ordered", "not each.candidate.is_homogeneous", "False", _SPACE),
    Mutant("search.walk:Walk._nothing", "counts.refused == counts.looked_at", "False", _SPACE),
    Mutant("search.candidate:idle_of", "if world_size == base.world.size", "if world_size > 0", _HELD),
    Mutant("search.placements:_placed", "(*fixed.values(), idle)", "fixed.values()", _HELD),
    Mutant("search.rewrite:rewritten", "utf-8-sig", "utf-8", _COMMAND),
    Mutant("report.words:seconds_text", 'float(f"{seconds:.4g}")', "seconds", _WORDS),
    Mutant("report.search_text:_overflows", "score.memory_bytes >", "0 >", _COMMAND),
    Mutant("report.answer:check_distinct", "file.resolve()", "file", _OPTIONS),
    Mutant("report.answer:refuse_beside", "if value is not None", "if value is True", _OPTIONS),
    Mutant("simulate.estimate:Estimate.fits", "<= self.rank_bytes", "<= 2 * self.rank_bytes", _PLAN),
    Mutant("search.placements:_compositions", "yield (size, *rest)", "yield (*rest, size)", _SPACE),
    Mutant("search.rewrite:changed_keys", '"world.size": found.world_size', '"world.size": base.world.size', _COMMAND),
    Mutant(
        "search.difference:_kinds",
        "first.idle, second.idle",
        "first.idle, first.idle",
        ("tests/unit/search/test_difference.py",),
    ),
    Mutant(
        "config.edit_text:_insertion",
        'indent = " " * node.value[0][0].start_mark.column',
        'indent = ""',
        ("tests/unit/config/test_edit_text.py",),
    ),
]
