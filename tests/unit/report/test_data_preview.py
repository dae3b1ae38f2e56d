"""The page of documents: what it shows, that it is one file, and that nothing in a dataset becomes markup."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.report.data_preview import write_preview
from counterpoint.report.token_boxes import MOST_TOKENS, visible
from counterpoint.sources.prepared.index import PAYLOAD_NAME, Index
from counterpoint.sources.prepared.part import Encoded, Record
from tests.unit.inspection.planted import tokenizer_in, words, write
from tests.unit.inspection.test_data_info import CONFIG
from tests.unit.items import MakeClip, MakePicture
from tests.unit.items import make_clip as make_clip
from tests.unit.items import make_picture as make_picture
from tests.unit.report.pages import Page

HOSTILE = "</span><script>alert('x')</script><img src=x onerror=alert(1)> & \"cat\" \x00\u202e"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tokenizer_in(tmp_path)


def _page(folder: Path, out: Path, **options: object) -> tuple[str, Page]:
    write_preview(folder, out, **options)  # type: ignore[arg-type]
    html = out.read_text(encoding="utf-8")
    return html, Page(html)


def _pictures(page: Page) -> list[np.ndarray]:
    heads = [address.partition(",") for address in page.addresses]
    assert {head for head, _comma, _data in heads} <= {"data:image/png;base64"}
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for _head, _comma, data in heads]


def test_every_token_is_a_box_and_targets_are_marked(tokenizer: Tokenizer, make_clip: MakeClip, tmp_path: Path) -> None:
    record = words(tokenizer, "What is it?", "a cat", "train", Encoded(3, make_clip(900), "audio", names=("a.wav",)))
    html, page = _page(write(tmp_path, [record]), tmp_path / "page.html")
    boxes = re.findall(r'<span class="([a-z ]*)"(?: title="([^"]*)")?>([^<]*)</span>', html)
    assert [said for classes, _title, said in boxes if classes == "item"] == ["audio 1: 900"]
    assert [classes for classes, _title, _said in boxes].index("item") == 3
    tokens = [box for box in boxes if box[0] != "item"]
    assert [int(title.split()[1].rstrip(":")) for _c, title, _s in tokens] == list(record.tokens)
    assert ["target" in classes for classes, _t, _s in tokens] == list(record.loss)
    assert [said for classes, _t, said in tokens if "special" in classes] == ["&lt;bos&gt;", "&lt;eos&gt;"]
    assert "".join(said for _c, _t, said in tokens[1:-1]) == "What\u00b7is\u00b7it?a\u00b7cat"
    assert len(_pictures(page)) == 1
    assert "a.wav" in page.text


def test_hostile_text_and_names_stay_text(tokenizer: Tokenizer, make_picture: MakePicture, tmp_path: Path) -> None:
    evil = Encoded(1, make_picture(4, 4), names=(HOSTILE,))
    record = words(tokenizer, HOSTILE, HOSTILE, "<b>train</b>", evil)
    folder = write(tmp_path, [record])
    html, page = _page(folder, tmp_path / "page.html")
    assert set(page.names) <= {
        "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "section", "div", "span",
        "figure", "figcaption", "img",
    }  # fmt: skip
    assert "default-src &#x27;none&#x27;" in html
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", html)
    assert page.names.count("img") == 1
    with (folder / PAYLOAD_NAME).open("r+b") as payload:
        payload.write(b"<script>")
    page = _page(folder, tmp_path / "page.html")[1]
    assert "cannot be read: " in page.text
    assert not {"img", "script"} & set(page.names)


def test_a_config_shows_what_its_modules_see(tokenizer: Tokenizer, make_picture: MakePicture, tmp_path: Path) -> None:
    picture = make_picture(16, 16)
    records = [
        words(tokenizer, "What is it?", "a cat on a mat, and a dog", "train", Encoded(1, picture)),
        words(tokenizer, "And?", "a", "train", Encoded(1, make_picture(32, 32))),
        words(tokenizer, "Two?", "a", "train", Encoded(1, make_picture(8, 8)), Encoded(3, make_picture(8, 8))),
    ]
    folder = write(tmp_path, records)
    (tmp_path / "run.yaml").write_text(CONFIG.format(run=tmp_path / "run", folder=folder))
    html, page = _page(folder, tmp_path / "page.html", config=tmp_path / "run.yaml")
    assert "image 1: 16 rows of vision" in page.text
    assert "Left out: its items do not fit" in page.text
    cut = len(records[0].tokens) + 16 - 32
    assert cut > 0
    first, second, third = html.split("<h2>")[1:]
    classes = re.findall('<span class="([a-z ]*)"', third)
    assert [place for place, name in enumerate(classes) if name == "item"] == [1, 4]
    assert len(re.findall('class="[a-z ]*cut"', first)) == cut
    assert len(re.findall('class="[a-z ]*cut"', second)) == len(records[1].tokens)
    seen, stored, *_others = _pictures(page)
    scale = len(seen) // 16
    middles = seen[scale // 2 :: scale, scale // 2 :: scale]
    assert middles.tolist() == np.asarray(Image.open(io.BytesIO(picture))).tolist()
    assert stored.shape == (32, 32, 3)


def test_documents_are_drawn_by_the_seed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = write(tmp_path, [words(tokenizer, f"What {number}?", "x") for number in range(50)])
    names = {seed: re.findall("<h2>train, row ([0-9]+)", _page(folder, tmp_path / "p.html", seed=seed)[0])
             for seed in (0, 0, 1)}  # fmt: skip
    assert all(len(set(rows)) == 20 and rows == sorted(rows, key=int) for rows in names.values())
    assert names[0] != names[1]
    assert len(re.findall("<h2>", _page(folder, tmp_path / "p.html", samples=99)[0])) == 50


def test_long_documents_are_not_drawn_whole(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokens = [tokenizer.eos] * (MOST_TOKENS + 7)
    folder = write(tmp_path, [Record(tokens, [True] * len(tokens), "long", "")])
    html, page = _page(folder, tmp_path / "page.html")
    assert html.count('title="token') == MOST_TOKENS
    assert "and 7 more tokens" in page.text


def test_no_other_file_is_overwritten(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = write(tmp_path, [words(tokenizer, "What?", "it")])
    other = tmp_path / "notes.html"
    other.write_text("<p>mine</p>")
    with pytest.raises(DataError, match=r"notes\.html is something else than a preview; choose another file"):
        write_preview(folder, other)
    assert other.read_text() == "<p>mine</p>"
    with pytest.raises(DataError, match="is no folder; make it"):
        write_preview(folder, tmp_path / "nowhere" / "page.html")
    with pytest.raises(DataError, match="no split 'val'"):
        write_preview(folder, tmp_path / "page.html", split="val")
    assert Index(folder).manifest.documents == 1


def test_nothing_is_invisible() -> None:
    assert visible("a b\n\t\x00\x7f\u200b\u2028e\u0301") == "a\u00b7b\u23ce\u21e5\u2400[U+007F][U+200B][U+2028]e\u0301"
