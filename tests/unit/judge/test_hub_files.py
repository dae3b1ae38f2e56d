"""A run that starts from a folder and from pictures and clips on disk computes what transformers computes with them.

The folder comes in through `import` and its run's YAML, the files through `prepare` and the run's own reader.
transformers reads the same files with the tokenizer and the processors of the same folder.
"""

from pathlib import Path

import pytest

from tests.unit.judge.hub_documents import Documents
from tests.unit.judge.hub_files import start_run, write_documents, write_processors, write_tokenizer
from tests.unit.judge.hub_folders import cases_of, write_hub_folder
from tests.unit.judge.hub_judge import assert_same, judge_folder, whole_of
from tests.unit.judge.judge import REASON

pytest.importorskip("transformers", reason=REASON)

IN_SUITE = {("llava", "whole"), ("nemotron_h_omni with sound", "memory"), ("whisper", "whole")}


@pytest.mark.parametrize(("family", "seed", "variant"), cases_of(IN_SUITE))
def test_a_start_from_files_equals_transformers_in_float64(
    family: str, seed: int, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, files = tmp_path / "folder", tmp_path / "files"
    write_hub_folder(family, seed, variant, folder)
    whole = whole_of(folder)
    write_tokenizer(folder)
    processors = write_processors(family, seed, whole, folder)
    records = write_documents(family, seed, whole, files)
    documents = Documents(family, folder, records, processors, whole, monkeypatch)
    run = start_run(family, folder, files, tmp_path)
    verdict = judge_folder(family, folder, tmp_path / "gradients", monkeypatch, documents.theirs())
    assert_same(verdict, *run.say())
