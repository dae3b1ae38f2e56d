"""Three small datasets as people have them, prepared as they are: chats in parquet with pictures inside, a folder of
MP4 clips, and FLAC speech; and a model that reads all of them."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.prepare.command import PrepareSummary, prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.verify.command import as_verified
from tests.parity.layouts import override
from tests.parity.speech import SPEECH, trio
from tests.unit.data.chat_folders import FAMILIES, write_folder
from tests.unit.data.published import dataset, feature, structs, to_parquet, write_lines
from tests.unit.modalities.videos import write_video

CHATS, CLIPS, SPEECHES = 24, 8, 18
TAKE = 7
"""Of the clips of speech."""

BUDGET = 160
PAIR = trio(2, {"ranks": [0]}, {"ranks": [1]})
PICTURES = 30
"""In the chats."""

DATASETS = ("chats", "clips", "speech")
ANSWERS = ("A cat on a mat.", "3 dogs, and a cat.", "What is in the picture?", "A mat.")


def prepare_own_shapes(folder: Path) -> dict[str, PrepareSummary]:
    """Write the datasets and what `prepare` makes of each, `folder` / its name, by the template of one tokenizer."""
    for package in ("datasets", "av", "soundfile", "jinja2"):
        pytest.importorskip(package)
    tokenizer = write_folder(folder / "tokenizer", FAMILIES["chatml"])
    for name, write in zip(DATASETS, (_write_chats, _write_clips, _write_speech), strict=True):
        write(folder / "raw" / name)
    options = PrepareOptions(tokenizer=tokenizer, fps=4)
    return {name: prepare(str(folder / "raw" / name), folder / name, options) for name in DATASETS}


def own_config(folder: Path, layout: Mapping[str, Any] = PAIR, **keys: Any) -> Config:
    """The config of a training on what `prepare_own_shapes` made, in float64, with keys changed."""
    entries: list[dict[str, Any]] = [
        {"path": str(folder / "chats"), "weight": 2.0, "shuffle_mib": 1},
        {"path": str(folder / "clips"), "weight": 1.0, "sequence_tokens": BUDGET - 8},
        {"path": str(folder / "speech"), "weight": 1.5, "take": TAKE},
    ]
    changed = {
        "modules.vision.model.frames": 2,
        "modules.language.model.vocab": "tokenizer",
        "data.train": entries,
        "data.tokenizer": str(folder / "chats" / "tokenizer.json"),
        "data.packing": True,
        "data.window_steps": 2,
        "data.sequence_tokens": BUDGET,
        "training.global_batch_samples": 14,
        "checkpoint.asynchronous": False,
        "log.tensorboard": False,
    }
    changed |= dict(layout) | {key.replace("__", "."): value for key, value in keys.items()}
    return as_verified(override(load_config(SPEECH), changed), "float64")


def _write_chats(folder: Path) -> None:
    """Row groups of four chats: about a picture, without one, about two of them, and of two turns about one each."""
    rows = [{"messages": _chat(number), "images": _pictures(number)} for number in range(CHATS)]
    table = dataset(rows, messages=structs("role", "content"), images=feature("[Image]"))
    folder.mkdir(parents=True)
    table.to_parquet(str(folder / "train-00000-of-00001.parquet"), batch_size=4)


def _chat(number: int) -> list[dict[str, str]]:
    answer, other = ANSWERS[number % 4], ANSWERS[number // 4 % 4]
    questions = (
        [f"<image>\nWhat is in picture {number}?"],
        [f"What is {number}?", "And a cat?"],
        ["<image>What<image> is it?"],
        ["Is it <image>?", "Or\n<image>?"],
    )[number % 4]
    turns = [("system", "A model.")] if number % 3 == 0 else []
    for question, reply in zip(questions, (answer, other), strict=False):
        turns += [("user", question), ("assistant", reply)]
    return [{"role": role, "content": text} for role, text in turns]


def _pictures(number: int) -> list[dict[str, Any]]:
    """Pictures of noise, so that row groups have more bytes than are shuffled together."""
    random, found = np.random.default_rng(number), []
    for which in range((1, 0, 2, 2)[number % 4]):
        size = (150 + 8 * (number % 5), 170 - 24 * which, 3)
        data = io.BytesIO()
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(data, ("PNG", "JPEG")[number % 8 == 3])
        found.append({"bytes": data.getvalue(), "path": None})
    return found


def _write_clips(folder: Path) -> None:
    """A folder of films of half a second to two, and the file that names them."""
    (folder / "films").mkdir(parents=True)
    records = []
    for number in range(CLIPS):
        name = f"films/{number}.mp4"
        data = write_video(13 + 5 * number, size=(32 + 16 * (number % 2), 48), noise=True)
        (folder / name).write_bytes(data)
        turns = [{"from": "human", "value": "<video>\nWhat is in it?"}, {"from": "gpt", "value": ANSWERS[number % 4]}]
        records.append({"video": name, "conversations": turns})
    write_lines(folder / "train.jsonl", records)


def _write_speech(folder: Path) -> None:
    """Clips of up to a quarter of a second, of several rates and numbers of channels, and what is said in them."""
    import soundfile

    rows = []
    for number in range(SPEECHES):
        rate = (16_000, 44_100, 8_000)[number % 3]
        samples = np.random.default_rng(number).uniform(
            -0.4, 0.4, (int(rate * (0.04 + 0.011 * number)), 1 + number % 2)
        )
        data = io.BytesIO()
        soundfile.write(data, samples, rate, format="FLAC", subtype=("PCM_16", "PCM_24")[number % 2])
        rows.append({"audio": {"bytes": data.getvalue(), "path": f"{number}.flac"}, "text": f"{number} dogs."})
    table = dataset(rows, audio=feature("Audio"), text=feature("text"))
    to_parquet(table, folder / "train-00000-of-00001.parquet")
