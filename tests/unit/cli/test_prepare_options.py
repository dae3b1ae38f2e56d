"""The options of `prepare` as a user types them."""

import json
from pathlib import Path

from PIL import Image

from counterpoint.sources.prepared.index import Index
from tests.unit.cli.conftest import Command


def test_the_command_takes_the_options(counterpoint: Command, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "raw" / "a.png")
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "x"}]
    records = [{"image": name, "conversations": turns} for name in ("a.png", "gone.png", "a.png")]
    (tmp_path / "raw" / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    command = ("prepare", tmp_path / "raw", tmp_path / "out")
    options = ("--workers", "1", "--on-error", "skip", "--most-missing", "0.5", "--copy")
    ended = counterpoint(*command, *options)
    assert ended.code == 0
    assert "prepared: 2 documents (train 2)" in ended.out
    assert f"left out 1 ({tmp_path}/raw/train.jsonl:2): image gone.png is missing" in ended.out
    assert Index(tmp_path / "out").items(0)[0].store == 0
    for wrong, message in ((("--on-error", "x"), "--on-error: got 'x'"), ((), "train.jsonl:2: image gone.png is mis")):
        ended = counterpoint(*command, *wrong)
        assert ended.code == 2
        assert message in ended.err
