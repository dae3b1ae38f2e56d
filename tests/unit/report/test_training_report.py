"""The report of a run: from a fabricated run folder, whole, in pieces, and torn."""

import base64
import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoint import costs
from counterpoint.config.load import dump_config, load_config
from counterpoint.costs.file import write_hardware
from counterpoint.errors import CheckpointError, InputError
from counterpoint.inference.predictions import Evaluation
from counterpoint.report.run_record import read_metrics, read_timeline
from counterpoint.report.samples import MOST_SAMPLES, marked
from counterpoint.report.training import write_report
from counterpoint.sources.prepared.index import TOKENIZER_NAME
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Encoded, Record
from tests.unit.report.pages import EXAMPLES, Page

HOSTILE = "<script>alert('x')</script> & \"cat\""


def _module(rate: float) -> dict[str, Any]:
    return {
        "learning_rate": rate, "gradient_norm": 0.5, "tflops_per_rank": 1.25, "mfu": 0.371, "mfu_all": 0.124,
        "imbalance": 1.07, "peak_memory_bytes": 3 * 2**30,
    }  # fmt: skip


def _step(step: int, loss: float) -> dict[str, Any]:
    return {
        "step": step, "loss": loss, "loss_tokens": 400, "tokens_per_second": 5000.0, "step_seconds": 0.5,
        "gradient_norm": 0.7, "bad_payloads": 0, "modules": {"vision": _module(1e-3), "language": _module(2e-3)},
    }  # fmt: skip


def _write_lines(run: Path, *records: dict[str, Any]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def _write_predictions(run: Path, *pairs: tuple[str, str]) -> None:
    rows = [{"index": i, "truth": truth, "written": written} for i, (truth, written) in enumerate(pairs)]
    (run / "evaluation.json").write_text(json.dumps({"step": 20, "splits": {"held": rows}}))


def _encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _write_dataset(folder: Path, texts: list[str], *pictures: bytes) -> None:
    plain = (_encoded(Image.new("RGB", (28, 28), (20 * number % 256, 90, 160))) for number in range(len(texts)))
    with IndexWriter(folder) as writer:
        for text, picture in zip(texts, pictures or plain, strict=True):
            writer.add(Record([1, 2, 3], [False, True, True], "held", text, [Encoded(0, picture)]))
        (writer.folder / TOKENIZER_NAME).write_text("{}")
        writer.publish()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a config alone; its evaluation split `held` is at `data` beside it, not yet written."""
    folder = tmp_path / "run"
    folder.mkdir()
    entry = {"path": str(tmp_path / "data"), "split": "held"}
    config = load_config(EXAMPLES / "synthetic_disjoint.yaml", [f"data.evaluation=[{json.dumps(entry)}]"])
    (folder / "config.yaml").write_text(dump_config(config))
    return folder


def _page(run: Path) -> Page:
    written = write_report(run)
    assert written == run / "report.html"
    return Page(written.read_text())


def test_a_whole_run_shows_everything(run: Path) -> None:
    _write_dataset(run.parent / "data", ["a cat", "a dog", "a fox"])
    _write_lines(run, _step(1, 6.0), {"step": 10, "evaluation": "held", "loss": 2.5}, _step(20, 1.25))
    _write_predictions(run, ("a cat", "a cat"), ("a dog", "a wet dog"), ("a fox", "a fox"))
    (run / "versions.json").write_text(json.dumps({"torch": "2.13.0"}))
    ranks = {"0": [{"action": "vision.0F0", "start": 7.0, "end": 7.25}], "2": [_bar("language.0R"), _bar("S")]}
    (run / "timeline.json").write_text(json.dumps({"step": 20, "ranks": ranks}))
    page = _page(run)
    for words in (
        "step 20 of 20", "66.7 %", "2 of 3", "a wet dog", "evaluation held 2.5", "training 1.25", "torch 2.13.0",
        "Predicted", "Measured, step 20", "37.1%", "12.4%", "3.0 GiB", "1.070", "tp2 on 2-3", "Learning rate",
    ):  # fmt: skip
        assert words in page.text
    assert "left out" not in page.text
    assert len(page.addresses) == 3
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)


def _bar(action: str) -> dict[str, Any]:
    return {"action": action, "start": 7.25, "end": 7.5}


def test_a_folder_with_a_config_alone_says_what_is_missing(run: Path) -> None:
    page = _page(run)
    for words in ("Predictions are left out", "Curves are left out", "measured timeline is left out",
                  "table of modules is left out", "Versions are left out"):  # fmt: skip
        assert words in page.text
    assert "Predicted, at unit costs" in page.text


def test_missing_pictures_leave_the_captions(run: Path) -> None:
    _write_predictions(run, ("a cat", "a cat"))
    page = _page(run)
    assert "Pictures are left out" in page.text
    assert "a cat" in page.text
    assert not page.addresses


def test_pictures_are_shown_as_the_model_sees_them(run: Path) -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    turned = Image.Exif()
    turned[0x0112] = 6
    damaged = bytearray(_encoded(Image.new("RGB", (28, 28))))
    damaged[damaged.index(b"IDAT") + 5] ^= 0xFF
    pictures = (
        _encoded(Image.fromarray(ramp), "TIFF"),
        _encoded(Image.new("L", (300, 30)), "JPEG", exif=turned),
        bytes(damaged),
    )
    texts = ["a ramp", "a bar", "nothing"]
    _write_dataset(run.parent / "data", texts, *pictures)
    _write_lines(run, _step(20, 1.25))
    _write_predictions(run, *((text, text) for text in texts))
    shown = [base64.b64decode(address.partition(",")[2]) for address in _page(run).addresses]
    first, second = (Image.open(io.BytesIO(data)).convert("L") for data in shown)
    assert [first.size, second.size] == [(8, 8), (14, 144)]
    np.testing.assert_array_equal(np.asarray(first), np.round(ramp * 255))


def test_captions_are_escaped(run: Path) -> None:
    _write_dataset(run.parent / "data", [HOSTILE, HOSTILE])
    _write_predictions(run, (HOSTILE, HOSTILE), (HOSTILE, f"{HOSTILE} {HOSTILE}"))
    page = _page(run)
    assert "script" not in page.names
    assert page.text.count(HOSTILE) >= 3


def test_a_plan_that_cannot_be_built_is_named(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        text.replace("vocab: 512", "vocab: tokenizer").replace("tokenizer: null", "tokenizer: /nowhere/tokenizer.json")
    )
    _write_lines(run, _step(1, 6.0))
    page = _page(run)
    assert "predicted timeline is left out" in page.text
    assert "/nowhere/tokenizer.json" in page.text
    assert "3.0 GiB" in page.text


def test_a_failure_is_shown(run: Path) -> None:
    (run / "error.json").write_text(json.dumps({"rank": 3, "message": "the disk is full"}))
    assert "rank 3: the disk is full" in _page(run).text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.yaml"):
        write_report(tmp_path)


def test_later_records_of_a_step_win_and_torn_lines_are_counted(run: Path) -> None:
    evaluation = {"step": 20, "evaluation": "held", "loss": 3.0}
    skipped = {
        "step": 12,
        "skipped": ["the loss"],
        "excluded": [[0, 3]],
        "samples": ["document 3"],
        "why": "not finite",
    }
    _write_lines(run, _step(10, 4.0), skipped, _step(20, 3.5), evaluation, _step(20, 2.0), {**evaluation, "loss": 1.5})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "lo')
    metrics = read_metrics(run)
    assert metrics is not None
    assert [(record.step, record.loss) for record in metrics.steps] == [(10, 4.0), (20, 2.0)]
    assert metrics.evaluations == {"held": ((20, 1.5),)}
    assert metrics.unreadable == 1
    assert "1 lines of metrics.jsonl could not be read" in _page(run).text


def _skipped(step: int) -> dict[str, Any]:
    return {"step": step, "skipped": ["the loss"], "excluded": [], "samples": ["document 3"], "why": "not finite"}


def test_skipped_steps_are_counted_and_named(run: Path) -> None:
    """Those of which a later start knows nothing are done again; the last one is why the run ended."""
    started = {"data": "emoji", "documents": 9, "counted": 9, "kept": 9, "cut": 0, "lost": 0, "left_out": {},
               "without_loss": {}}  # fmt: skip
    first = ({**started, "step": 0}, _skipped(2), _step(10, 4.0), _skipped(14), _skipped(15))
    _write_lines(run, *first, {**started, "step": 14}, _skipped(17), _skipped(18), _skipped(18))
    assert "4steps skipped, not finite" in _page(run).text
    assert "Not finite, and therefore skipped without an update: steps 2, 14, 17-18." in _page(run).text
    _write_lines(run, {**started, "step": 0}, _skipped(1))
    assert "1step skipped, not finite" in _page(run).text
    assert "without an update: step 1." in _page(run).text
    _write_lines(run, {**started, "step": 0}, _step(1, 4.0))
    assert "skipped without" not in _page(run).text


def test_steps_of_an_abandoned_start_are_no_longer_the_runs(run: Path) -> None:
    """One that went on from an older checkpoint, and ended earlier, trained with other values."""
    started = {"data": "emoji", "documents": 9, "counted": 9, "kept": 9, "cut": 0, "lost": 0, "left_out": {},
               "without_loss": {}}  # fmt: skip
    held = {"evaluation": "held", "loss": 3.0}
    first = (
        _step(1, 6.0),
        {**held, "step": 1},
        _step(5, 5.0),
        _step(10, 4.0),
        {"evaluation": "late", "step": 9, "loss": 1.0},
    )
    _write_lines(run, {**started, "step": 0}, *first, {**held, "step": 10}, {**started, "step": 5}, _step(7, 4.5))
    metrics = read_metrics(run)
    assert metrics is not None
    assert [record.step for record in metrics.steps] == [1, 5, 7]
    assert metrics.evaluations == {"held": ((1, 3.0),)}


def test_records_of_modules_that_the_config_lost_leave_a_page(run: Path) -> None:
    _write_lines(run, {**_step(1, 6.0), "modules": {"sonar": _module(1e-3), "vision": _module(1e-3)}})
    (run / "timeline.json").write_text(json.dumps({"step": 1, "ranks": {"0": [_bar("sonar.0F0")]}}))
    assert _page(run).text.count("sonar") == 1


def test_a_loss_that_is_not_a_number_leaves_a_page(run: Path) -> None:
    _write_lines(run, _step(1, float("nan")), _step(2, float("inf")))
    _page(run)


def test_many_predictions_are_sampled_evenly(run: Path) -> None:
    _write_predictions(run, *((f"truth {n}.", f"truth {n}.") for n in range(100)))
    page = _page(run)
    shown = [n for n in range(100) if f"truth {n}." in page.text]
    assert len(shown) == MOST_SAMPLES
    assert shown[0] == 0
    assert {b - a for a, b in pairwise(shown)} == {4, 5}


@pytest.mark.parametrize("text", ["", "[1]", '{"step": 1}', '{"step": 1, "ranks": {"0": [{"action": "x"}]}}'])
def test_files_that_are_not_what_they_should_be_count_as_missing(run: Path, text: str) -> None:
    for name in ("evaluation.json", "timeline.json", "versions.json", "error.json"):
        (run / name).write_text(text)
    assert Evaluation.read(run) is None
    assert read_timeline(run) is None
    _page(run)


def test_measured_times_count_from_the_first_start(run: Path) -> None:
    ranks = {"1": [_bar("vision.0F0")], "0": [{"action": "vision.0F0", "start": 7.0, "end": 7.25}]}
    (run / "timeline.json").write_text(json.dumps({"step": 2, "ranks": ranks}))
    measured = read_timeline(run)
    assert measured is not None
    assert list(measured.ranks) == [0, 1]
    assert [(row[0].start, row[0].end) for row in measured.ranks.values()] == [(0.0, 0.25), (0.25, 0.5)]


def test_the_last_timed_step_counts_with_its_device_and_arrivals(run: Path) -> None:
    timed = {"action": "vision.0F0", "start": 1.0, "ready": 1.5, "end": 2.0}
    steps = [{"step": step, "ranks": {"0": [timed]}} for step in (2, 4)]
    (run / "timeline.json").write_text(json.dumps({"device": "NVIDIA H200", "steps": steps}))
    measured = read_timeline(run)
    assert measured is not None
    assert (measured.step, measured.device, measured.seconds) == (4, "NVIDIA H200", 1.0)
    assert measured.ranks[0][0].waited == 0.5


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a wet dog", "a <mark>wet</mark> dog"),
        ("a dog", "a dog"),
        ("a <b>", "a <mark>&lt;b&gt;</mark>"),
        ("", "(nothing)"),
    ],
)
def test_words_that_the_truth_does_not_have_are_marked(written: str, expected: str) -> None:
    assert marked("a dog", written) == expected


def test_hardware_that_was_named_is_not_left_out_without_a_word(run: Path, tmp_path: Path) -> None:
    (run / "config.yaml").write_text(dump_config(load_config(EXAMPLES / "synthetic_disjoint.yaml")))
    timed = {"action": "vision.0F0", "start": 1.0, "ready": 1.5, "end": 2.0}
    step = {"step": 2, "ranks": {"0": [timed]}}
    (run / "timeline.json").write_text(json.dumps({"device": "NVIDIA H200", "steps": [step]}))
    slow = tmp_path / "slow.json"
    write_hardware(slow, replace(costs.load("h200"), peaks={}, products={}, attentions={}, scans={}, grouped={}))
    with pytest.raises(InputError, match=r"^H200: "):
        write_report(run, hardware=str(slow))
    assert not (run / "report.html").exists()
    write_report(run)
