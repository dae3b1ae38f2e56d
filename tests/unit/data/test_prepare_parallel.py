"""Preparing in processes: the same bytes for any number of them and after a kill, and bad samples left out."""

import base64
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.faults import ERRORS_NAME
from counterpoint.data.prepare.job import Tick
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.prepare.readers import json_array, json_lines
from counterpoint.data.text.tokenizer import train_tokenizer
from counterpoint.errors import DataError, RunError
from counterpoint.sources.prepared.index import Index
from tests.unit.items import MakePicture

RECORDS = 60
INLINE = "data:image/png;base64,"


@pytest.fixture
def raw(tmp_path: Path, make_picture: MakePicture, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records with pictures beside them, in three files, of which shards hold a few."""
    monkeypatch.setattr(json_lines, "SHARD_LINES", 7)
    monkeypatch.setattr(json_array, "SHARD_ELEMENTS", 7)
    folder = tmp_path / "raw"
    folder.mkdir()
    for side in (4, 8, 12):
        (folder / f"{side}.png").write_bytes(make_picture(side, 8))
    records = [_record(number) for number in range(RECORDS)]
    (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n\n" for record in records))
    (folder / "held.json").write_text("\ufeff" + json.dumps(records[:20], indent=1, ensure_ascii=False))
    (folder / "one.jsonl").write_text(json.dumps(records[0]))
    return folder


def _record(number: int) -> dict[str, object]:
    turns = [{"from": "human", "value": f"<image>Which, \u00e4 {number}?"}, {"from": "gpt", "value": "one " * number}]
    return {"id": number, "source": "x", "image": f"{4 + number % 3 * 4}.png", "conversations": turns}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_bytes_do_not_depend_on_the_number_of_processes(raw: Path, tmp_path: Path) -> None:
    inline = json.dumps(_record(0) | {"image": INLINE + base64.b64encode((raw / "4.png").read_bytes()).decode()})
    lines = (raw / "train.jsonl").read_text().replace("\n\n", f"\n{inline}\n", RECORDS // 2)
    (raw / "train.jsonl").write_text(lines)
    found = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out{workers}"
        summary = prepare(str(raw), out, PrepareOptions(vocabulary=300, workers=workers))
        assert summary.manifest.splits == {"train": RECORDS // 2 * 3, "held": 20, "one": 1}
        assert summary.remarks == (f"key 'source' of {RECORDS // 2 * 3 + 21} records: not read",)
        found.append(content(out))
    assert found[0] == found[1] == found[2]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "nothing is left over"
    copied = prepare(str(raw), tmp_path / "copied", PrepareOptions(vocabulary=300, copy=True)).manifest
    for index in (Index(tmp_path / "out1"), Index(tmp_path / "copied")):
        entries = [entry for row in range(index.manifest.documents) for entry in index.items(row)]
        names = [entry.names[0] for entry in entries if index.items(0) and entry.names[0] != "given inline"]
        held = [f"{4 + number % 3 * 4}.png" for number in range(20)]
        assert names == [*held, "4.png", *(f"{4 + number % 3 * 4}.png" for number in range(RECORDS))]
        for entry in entries:
            name = "4.png" if entry.names[0] == "given inline" else entry.names[0]
            assert index.item_files(entry, slice(1)) == [(raw / name).read_bytes()]
        if index.manifest == copied:
            assert {entry.store for entry in entries} == {0}
            assert copied.payload_bytes == sum(sum(entry.lengths) for entry in entries)
        else:
            assert index.manifest.payload_bytes == RECORDS // 2 * (raw / "4.png").stat().st_size


def test_a_preparation_that_was_killed_goes_on(raw: Path, tmp_path: Path) -> None:
    """The whole family of processes ends, finished parts are taken up, and the bytes are those of one that was not."""
    with (raw / "train.jsonl").open("a") as file:
        file.writelines(json.dumps(_record(number)) + "\n" for number in range(100, 800))
    options = "PrepareOptions(vocabulary=300, workers=2)"
    code = (
        "from pathlib import Path\n"
        "from counterpoint.data.prepare.command import prepare\n"
        "from counterpoint.data.prepare.options import PrepareOptions\n"
        "from counterpoint.data.prepare.readers import json_array, json_lines\n"
        "json_lines.SHARD_LINES = json_array.SHARD_ELEMENTS = 7\n"
        f"prepare({str(raw)!r}, Path({str(tmp_path / 'out')!r}), {options})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    patience = time.monotonic() + 60
    while len(parts := list(tmp_path.glob(".out.work-*/[0-9]*.json"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < patience
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    ticks: list[Tick] = []
    prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300), ticks.append)
    assert ticks[0].shards >= len(parts)
    assert sum(tick.shards for tick in ticks) == ticks[0].known
    prepare(str(raw), tmp_path / "other", PrepareOptions(vocabulary=300))
    assert content(tmp_path / "out") == content(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out", "raw"]


class _StopError(Exception):
    pass


def _stop_after(shards: int) -> Callable[[Tick], None]:
    ticks: list[Tick] = []

    def watch(tick: Tick) -> None:
        ticks.append(tick)
        if sum(each.shards for each in ticks) == shards:
            raise _StopError

    return watch


def _begun(raw: Path, out: Path, options: PrepareOptions, shards: int = 3) -> None:
    """A preparation that ends after some shards."""
    with pytest.raises(_StopError):
        prepare(str(raw), out, options, _stop_after(shards))


def test_what_is_left_of_other_options_or_other_data_is_not_taken_up(raw: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", PrepareOptions(vocabulary=300)
    for change in ("none", "options", "data"):
        _begun(raw, out, PrepareOptions(vocabulary=301) if change == "options" else options)
        (left,) = tmp_path.glob(".out.work-*")
        if change == "data":
            with (raw / "one.jsonl").open("a") as file:
                file.write("\n" + json.dumps(_record(9)))
        ticks: list[Tick] = []
        prepare(str(raw), out, options, ticks.append)
        assert ticks[0].shards == (3 if change == "none" else 0)
        assert not left.exists()
        assert Index(out).manifest.splits["one"] == (2 if change == "data" else 1)
        out.rename(tmp_path / change)


@pytest.mark.parametrize("damage", ["summary", "arrow", "payload"])
def test_a_part_that_is_not_whole_is_made_again(raw: Path, tmp_path: Path, damage: str) -> None:
    options = PrepareOptions(vocabulary=300, copy=True)
    _begun(raw, tmp_path / "out", options)
    (left,) = tmp_path.glob(".out.work-*")
    path = next(left.glob({"summary": "*0.json", "arrow": "*0.arrow", "payload": "*0.bin"}[damage]))
    path.write_bytes(path.read_bytes()[:-1])
    ticks: list[Tick] = []
    prepare(str(raw), tmp_path / "out", options, ticks.append)
    assert ticks[0].shards == 2
    prepare(str(raw), tmp_path / "other", options)
    assert content(tmp_path / "out") == content(tmp_path / "other")


def test_two_preparations_of_one_folder_do_not_meet(raw: Path, tmp_path: Path) -> None:
    def watch(tick: Tick) -> None:
        if tick.known:
            with pytest.raises(DataError, match="another process prepares it"):
                prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300))

    assert prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300), watch).is_new


def test_a_process_that_dies_is_named_by_what_it_read(raw: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def watch(tick: Tick) -> None:
        children = multiprocessing.active_children()
        if tick.shards and children and not killed:
            killed.append(children[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    options = PrepareOptions(vocabulary=300, workers=2)
    with pytest.raises(
        RunError, match=r"the process that read .*raw/\w+\.jsonl? from row \d+ on was killed by signal 9"
    ):
        prepare(str(raw), tmp_path / "out", options, watch)
    assert multiprocessing.active_children() == []
    prepare(str(raw), tmp_path / "out", options)
    prepare(str(raw), tmp_path / "other", PrepareOptions(vocabulary=300))
    assert content(tmp_path / "out") == content(tmp_path / "other")


def _spoil(raw: Path) -> None:
    """Bad records at lines 3, 17 and 19 (a key twice), 41 (no picture), 71 and 101 (missing)."""
    lines = (raw / "train.jsonl").read_text().splitlines()
    for line in (3, 17, 19):
        lines[line - 1] = '{"image": "4.png", "image": "4.png"}'
    (raw / "none.png").write_bytes(b"no picture")
    for line, name in ((41, "none.png"), (71, "gone.png"), (101, "lost/gone.png")):
        lines[line - 1] = lines[line - 1].replace('.png"', f'.png{name}"').replace("4.png" + name, name)
        record = json.loads(lines[line - 1])
        lines[line - 1] = json.dumps(record | {"image": name})
    (raw / "train.jsonl").write_text("\n".join(lines) + "\n")


def test_bad_samples_are_left_out_and_counted_alike_by_any_number_of_processes(raw: Path, tmp_path: Path) -> None:
    _spoil(raw)
    with pytest.raises(DataError, match=r"train\.jsonl:3: .*the key 'image' comes twice"):
        prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300))
    for workers in (1, 2):
        options = PrepareOptions(vocabulary=300, workers=workers, on_error="skip")
        summary = prepare(str(raw), tmp_path / f"out{workers}", options)
        assert summary.manifest.splits == {"train": RECORDS - 6, "held": 20, "one": 1}
    assert content(tmp_path / "out1") == content(tmp_path / "out2")
    text = (tmp_path / "out1" / ERRORS_NAME).read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(each["count"], each["is_missing"], each["places"]) for each in lines] == [
        (3, False, ["train.jsonl:3", "train.jsonl:17", "train.jsonl:19"]),
        (2, True, ["train.jsonl:71", "train.jsonl:101"]),
        (1, False, ["train.jsonl:41"]),
    ]
    assert str(tmp_path) not in text
    left_out = [remark for remark in summary.remarks if remark.startswith("left out")]
    places = ", ".join(f"{raw}/train.jsonl:{line}" for line in (3, 17, 19))
    assert left_out[0].startswith(f"left out 3 ({places}): not a JSON object")


def test_the_first_error_is_told_though_a_later_shard_fails_sooner(raw: Path, tmp_path: Path) -> None:
    """The first shard has a long text, which takes a second, before its bad record."""
    long = [{"from": "human", "value": random.Random(0).randbytes(500_000).hex()}, {"from": "gpt", "value": "x"}]
    records: list[dict[str, object]] = [{"conversations": long}, *(_record(3) for _ in range(41))]
    for line, name in ((6, "gone.png"), (7, "lost.png"), (14, "lost.png")):
        records[line]["image"] = name
    records[6] |= {"conversations": _record(3)["conversations"]}
    (raw / "train.jsonl").write_text("\n".join(map(json.dumps, records)))
    (raw / "held.json").unlink()
    train_tokenizer(["A square."], 270, tmp_path / "tokenizer.json")
    options = PrepareOptions(tokenizer=tmp_path / "tokenizer.json", workers=3)
    with pytest.raises(DataError, match=r"train\.jsonl:7: .*gone\.png is missing"):
        prepare(str(raw), tmp_path / "out", options)


def test_missing_files_are_left_out_up_to_a_share(raw: Path, tmp_path: Path) -> None:
    (raw / "8.png").unlink()
    for options, share in (
        (PrepareOptions(vocabulary=300, on_error="skip"), "0.1"),
        (PrepareOptions(vocabulary=300, most_missing=0.3), "0.3"),
    ):
        with pytest.raises(DataError, match=rf"files of 27 of 81 samples are missing .* a share of 0.333, .* {share};"):
            prepare(str(raw), tmp_path / "out", options)
    summary = prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300, most_missing=0.4))
    assert summary.manifest.documents == 54
    assert json.loads((tmp_path / "out" / ERRORS_NAME).read_text())["message"].startswith("image 8.png is missing in .")
    with pytest.raises(DataError, match=r"held\.json:17: .*8\.png is missing"):
        prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300))


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train.jsonl").write_text("{}\n{}\n")
    train_tokenizer(["A square."], 270, tmp_path / "tokenizer.json")
    options = PrepareOptions(tokenizer=tmp_path / "tokenizer.json", on_error="skip")
    with pytest.raises(DataError, match=r"no sample is left of 2: left out 2"):
        prepare(str(tmp_path / "raw"), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "message"), [
    ({"on_error": "ignore"}, "--on-error: got 'ignore', expected fail or skip"),
    ({"most_missing": 1.5}, "--most-missing: got 1.5, expected a share"),
    ({"workers": 0}, "--workers: got 0, expected at least 1"),
])  # fmt: skip
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        PrepareOptions(**options)  # type: ignore[arg-type]


def test_a_folder_that_is_no_index_is_refused_before_anything_is_read(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    ticks: list[Tick] = []
    with pytest.raises(DataError, match="is no index"):
        prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300), ticks.append)
    assert ticks == []


@pytest.mark.parametrize("window", [1, 7, 64])
def test_an_array_is_read_through_any_window(
    raw: Path, tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its elements and their lines are those of the whole text."""
    monkeypatch.setattr(json_array, "WINDOW_BYTES", window)
    reader = json_array.JsonArrayReader()
    rows = [row for shard in reader.shards(raw / "held.json", "held") for row in reader.rows(shard)]
    assert [row.values for row in rows] == [_record(number) for number in range(20)]
    text = (raw / "held.json").read_text().splitlines()
    for number, row in enumerate(rows):
        line = int(row.place.rpartition(":")[2])
        assert text[line - 1].strip("\ufeff ") == "{"
        assert f'"id": {number},' in text[line]
