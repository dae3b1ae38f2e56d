"""Datasets as they are published are prepared without a mapping: their splits, first texts, targets and files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer
from counterpoint.sources.prepared.index import Index
from tests.unit.data import published
from tests.unit.data.published import ANSWER, QUESTION, Write, picture, sound

A, B = picture("a.png"), picture("b.png")


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(["A red square."], 270, path)
    return path


@dataclass(frozen=True)
class Case:
    """A dataset, and what is expected of its index: the text of each document with @ for its items, its targets and
    the files of the items."""

    write: Write
    splits: Mapping[str, int]
    documents: list[tuple[str, str, list[bytes]]]
    options: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


Document = tuple[str, str, list[bytes]]

SEEN: Document = (f"<bos>@\n{QUESTION}\n{ANSWER}<eos>", f"{ANSWER}<eos>", [A])
PLAIN: Document = (f"<bos>Hello?\n{ANSWER}<eos>", f"{ANSWER}<eos>", [])
CAPTION = (f"<bos>@\n{ANSWER}<eos>", f"{ANSWER}<eos>", [A])
ASKED = (f"<bos>@{QUESTION}\n{ANSWER}<eos>", f"{ANSWER}<eos>", [A])

CASES = {
    "LLaVA": Case(
        published.llava,
        {"llava_v1_5_mix665k": 3},
        [SEEN, PLAIN, (f"<bos>{QUESTION}\n@\n{ANSWER}<eos>", f"{ANSWER}<eos>", [B])],
        remarks=("key 'model' of 1 records: not read",),
    ),
    "ShareGPT": Case(
        published.sharegpt, {"sharegpt": 1}, [("<bos>Hi.\nHi.<eos>Hi.\nHi.<eos>", "Hi.<eos>Hi.<eos>", [])]
    ),
    "LLaVA-NeXT": Case(
        published.llava_next,
        {"train": 4, "validation": 2},
        [SEEN, PLAIN, SEEN, PLAIN, SEEN, PLAIN],
        remarks=("key 'data_source' of 6 records: not read",),
    ),
    "LLaVA-OneVision, one subset": Case(
        published.one_vision,
        {"train": 1},
        [(SEEN[0], SEEN[1], [B])],
        {"subsets": (published.ONE_VISION,)},
    ),
    "LLaVA-OneVision, two subsets": Case(
        published.one_vision,
        {"train": 2},
        [SEEN, PLAIN],
        {"subsets": ("ai2d(gpt4v)", "magpie[x]")},
    ),
    "the_cauldron": Case(
        published.cauldron,
        {"train": 1},
        [(f"<bos>@@{QUESTION}\n{ANSWER}<eos>{QUESTION}\n{ANSWER}<eos>", f"{ANSWER}<eos>" * 2, [A, B])],
    ),
    "FineVision": Case(
        published.finevision,
        {"train": 3},
        [ASKED, (*ASKED[:2], [B]), (ASKED[0].replace("@", ""), ASKED[1], [])],
        remarks=("column 'relevance_min' of 1 files: not read", "column 'relevance_ratings' of 1 files: not read"),
    ),
    "FineVision, chosen": Case(
        published.finevision,
        {"train": 1},
        [ASKED],
        {"where": "relevance_min >= 3"},
        remarks=("2 records: left out by --where",),
    ),
    "OBELICS": Case(
        published.obelics,
        {"train": 1},
        [("<bos>First.@Second.<eos>", "First.Second.<eos>", [A])],
        {"images": ("fetched",), "addresses": "name"},
    ),
    "MMC4": Case(
        published.mmc4,
        {"docs_shard_0_v2": 1},
        [("<bos>First.@ Second.<eos>", "First. Second.<eos>", [A])],
        remarks=("key 'similarity_matrix' of 1 records: not read",),
    ),
    "MMC4, images behind": Case(
        published.mmc4,
        {"docs_shard_0_v2": 1},
        [("<bos>First. Second.@<eos>", "First. Second.<eos>", [A])],
        {"maps": ("image_place=behind",)},
    ),
    "AudioSet": Case(
        published.audioset,
        {"bal_train": 1},
        [("<bos>@\nSpeech, Music<eos>", "Speech, Music<eos>", [sound()])],
        remarks=(
            "1 records: 'labels' is not read, since 'human_labels' is; choose it with --map human_labels=labels, or "
            "leave it out with --map ignore=labels",
        ),
    ),
    "AudioSet with a template": Case(
        published.audioset,
        {"bal_train": 1},
        [("<bos>@\nOne hears Speech, Music.<eos>", "One hears Speech, Music.<eos>", [sound()])],
        {"maps": ("text=One hears {human_labels}.",)},
    ),
    "AudioSet in tars": Case(
        published.audioset_tars,
        {"train": 1},
        [("<bos>@\nSpeech<eos>", "Speech<eos>", [sound()])],
    ),
    "LibriSpeech": Case(
        published.librispeech,
        {"train.clean.100": 1},
        [("<bos>@\nHELLO<eos>", "HELLO<eos>", [sound()])],
        remarks=("column 'speaker_id' of 1 files: not read",),
    ),
    "Nemotron-VLM v2": Case(published.nemotron, {"captions": 1}, [ASKED]),
    "OpenAI": Case(published.openai, {"train": 2}, [(ASKED[0].replace("@", "@@"), ASKED[1], [A, sound()]), PLAIN]),
    "trl": Case(published.trl, {"train": 1}, [ASKED]),
    "LLaMA-Factory": Case(
        published.llama_factory,
        {"mllm_demo": 1},
        [(f"<bos>Be brief.\n@@What?\n{ANSWER}<eos>", f"{ANSWER}<eos>", [A, sound()])],
    ),
    "Alpaca": Case(published.alpaca, {"alpaca": 1}, [("<bos>Translate.\nKatze\ncat<eos>", "cat<eos>", [])]),
    "WebDataset": Case(
        published.captions,
        {"train": 2},
        [CAPTION, (*CAPTION[:2], [B])],
        remarks=("key 'width' of 2 records: not read",),
    ),
    "WebDataset, chosen": Case(published.captions, {"train": 1}, [(*CAPTION[:2], [B])], {"where": "width > 0"}),
    "Energon": Case(published.energon, {"train": 1, "val": 1}, [CAPTION, CAPTION]),
    "save_to_disk": Case(
        published.saved,
        {"train": 2, "test": 1},
        [CAPTION, ("<bos>@\nBlue.<eos>", "Blue.<eos>", [B]), ("<bos>@\nBlue.<eos>", "Blue.<eos>", [B])],
    ),
    "images with texts": Case(
        published.images_with_texts,
        {"train": 2},
        [("<bos>@\na.<eos>", "a.<eos>", [A]), ("<bos>@\nb.<eos>", "b.<eos>", [B])],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_published_dataset_is_prepared_without_a_mapping(name: str, tmp_path: Path, tokenizer_file: Path) -> None:
    case = CASES[name]
    folder = tmp_path / "raw"
    folder.mkdir()
    case.write(folder)
    options = dict(case.options)
    options["images"] = tuple(folder / image for image in options.get("images", ()))
    summary = prepare(str(folder), tmp_path / "out", PrepareOptions(tokenizer=tokenizer_file, **options))
    assert summary.manifest.splits == case.splits
    index, backend = Index(summary.out), Tokenizer.load(tokenizer_file).backend
    found = []
    for row in range(summary.manifest.documents):
        tokens, loss = index.tokens(row)
        items = index.items(row)
        cuts = [0, *(item.position for item in items), len(tokens)]
        pieces = [tokens[first:last] for first, last in pairwise(cuts)]
        text, *after, targets = (
            backend.decode(ids.tolist(), skip_special_tokens=False) for ids in (*pieces, tokens[loss])
        )
        files = [data for item in items for data in index.item_files(item, slice(None))]
        found.append(("@".join([text, *after]), targets, files))
    assert found == case.documents
    for remark in case.remarks:
        assert remark in summary.remarks
