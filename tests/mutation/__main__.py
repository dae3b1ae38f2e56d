"""Plants every fault and writes docs/mutations.md: `python -m tests.mutation`.

The tests that a mutant names run first. What they let pass meets all unit tests with `--unit`, and with `--ranks` the
tests on ranks that it names. Results are kept in a file, so a later call runs what is new or was not caught.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.mutation.mutant import Mutant, StaleError
from tests.mutation.mutants import MUTANTS
from tests.mutation.run import CAUGHT, PASSED, ROOT, TIMED_OUT, Tree, Verdict, preload
from tests.mutation.table import write_table

NEAR_SECONDS, UNIT_SECONDS, RANKS_SECONDS = 120.0, 900.0, 600.0


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--of", nargs="*", default=[""], help="mutants whose place begins with one of these")
    parser.add_argument("--unit", action="store_true", help="all unit tests for what the nearest let pass")
    parser.add_argument("--ranks", action="store_true", help="tests on ranks for what unit tests let pass")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no mutant after so many")
    parser.add_argument("--sound", action="store_true", help="only run, without any fault, the tests that mutants name")
    parser.add_argument("--again", action="store_true", help="also what is known to be caught")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutations.json")
    parser.add_argument("--table", action="store_true", help="only write docs/mutations.md from the results")
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.is_file() else {}
    if not options.table:
        options.results.parent.mkdir(exist_ok=True)
        chosen = [mutant for mutant in MUTANTS if mutant.where.startswith(tuple(options.of))]
        _run(chosen, results, options)
    write_table(MUTANTS, results, ROOT / "docs" / "mutations.md")


def _run(chosen: list[Mutant], results: dict[str, dict[str, object]], options: argparse.Namespace) -> None:
    deadline = time.monotonic() + 60 * options.minutes
    preload()
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        tree, log = Tree(Path(name) / "tree"), Path(name) / "log"
        if options.sound:
            nearest = sorted({test for mutant in chosen for test in mutant.tests})
            print(tree.run(nearest, UNIT_SECONDS, log), log.read_text()[-2000:])  # noqa: T201
            return
        for mutant in sorted(chosen, key=lambda one: one.name in results):
            known = results.get(mutant.name, {}).get("outcome")
            if (known in (CAUGHT, TIMED_OUT) and not options.again) or time.monotonic() > deadline:
                continue
            try:
                with tree.planted(mutant):
                    verdict = _verdict(tree, mutant, log, options)
            except StaleError as error:
                verdict = Verdict("stale", str(error), 0.0)
            results[mutant.name] = asdict(verdict)
            options.results.write_text(json.dumps(results, indent=1))
            print(f"{verdict.outcome:9} {verdict.seconds:6.1f} s  {mutant.name}  {verdict.by}", flush=True)  # noqa: T201


def _verdict(tree: Tree, mutant: Mutant, log: Path, options: argparse.Namespace) -> Verdict:
    stages = [(mutant.tests, NEAR_SECONDS, True)]
    stages += [(("tests/unit",), UNIT_SECONDS, options.unit), (mutant.ranks, RANKS_SECONDS, options.ranks)]
    verdict = Verdict(PASSED, "", 0.0)
    for tests, seconds, is_asked in stages:
        if is_asked and tests and verdict.outcome == PASSED:
            verdict = tree.run(tests, seconds, log)
    return verdict


if __name__ == "__main__":
    main()
