"""The data that examples and recipes name, made in the folder at hand: real emoji, and a few pictures and clips."""

import json
import shutil
import wave
from pathlib import Path

import numpy as np
from PIL import Image

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.sources.prepared.index import Manifest
from tests.golden.digest import digest, short
from tests.golden.written import Golden

EMOJI, SMOLLM2, NUMBERS = Path("data/emoji"), Path("data/emoji_smollm2"), Path("data/numbers")
SPLITS = {"train": 24, "voices": 4, "drawings": 4, "compositions": 4}
_RATE = 16_000


def make_data() -> None:
    """Write and prepare all of it below `data` in the working folder."""
    prepare("emoji", EMOJI)
    shutil.copytree(EMOJI, SMOLLM2)
    Path("data/smollm2").mkdir()
    shutil.copy(EMOJI / "tokenizer.json", Path("data/smollm2/tokenizer.json"))
    source = Path("data/numbers_source")
    source.mkdir()
    for split, count in SPLITS.items():
        records = [_record(source, split, number) for number in range(count)]
        (source / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    prepare(str(source), NUMBERS, PrepareOptions(vocabulary=300))


def _record(folder: Path, split: str, number: int) -> dict[str, object]:
    """A conversation about a picture, a clip, or both."""
    generator = np.random.default_rng([number, *split.encode()])
    kinds = [kind for kind, wanted in (("image", number % 3 != 1), ("audio", number % 3 != 0)) if wanted]
    record: dict[str, object] = {}
    for kind in kinds:
        name = f"{split}{number}.{'png' if kind == 'image' else 'wav'}"
        if kind == "image":
            height, width = generator.integers(24, 80, 2).tolist()
            Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
        else:
            samples = generator.integers(-9999, 9999, int(generator.integers(4000, 24000))).astype("<i2")
            with wave.open(str(folder / name), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(_RATE)
                file.writeframes(samples.tobytes())
        record[kind] = name
    marks = "".join(f"<{kind}>" for kind in kinds)
    words = " ".join(["one", "two", "three", "four", "five", "six", "seven"][: 1 + number % 7])
    turns = [{"from": "human", "value": f"{marks} Which number?"}, {"from": "gpt", "value": words}]
    return record | {"conversations": turns}


def data_goldens() -> Golden:
    """What was prepared: the manifest of each dataset and its files."""
    found: Golden = {}
    for folder in (EMOJI, NUMBERS):
        values = Manifest.read(folder).values()
        found[str(folder)] = {key: short(value) for key, value in values.items()}
        found[str(folder)] |= {path.name: digest(path.read_bytes()) for path in sorted(folder.iterdir())}
    return found
