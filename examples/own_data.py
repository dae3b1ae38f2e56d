"""Bring your own data: three sources of a Python program, blended, in front of a small vision-language model.

`colours` wraps a dataset with random access, such as torch's and Hugging Face's; `sums` is a stream that is read in its
order, with sizes declared ahead; `squares` says sizes, tokens and files itself.

Ranks:  4: vision dp2 (FSDP2) on 0-1, language dp2 on 2-3.
Time:   half a minute on two cores.
Expect: the loss falls from log(260) = 5.6 to about 1.

    python examples/own_data.py                         # trains
    python examples/own_data.py training.steps=5        # with an override
"""

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import counterpoint

COLOURS = ("red", "green", "blue", "black", "white", "orange")
BOS, EOS = 1, 2
FIRST_DIGIT = 4


class Colours:
    """A dataset with random access: pictures of one colour, of many sizes, and its name."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> dict[str, Any]:
        colour = COLOURS[index % len(COLOURS)]
        return {"picture": Image.new("RGB", (16 + 4 * (index % 5), 16 + 8 * (index % 3)), colour), "name": colour}


def colour_row(element: Mapping[str, Any]) -> dict[str, Any]:
    """The conversation about an element, in a form of docs/data.md."""
    question = {"role": "user", "content": "<image>Which colour?"}
    return {"image": element["picture"], "messages": [question, {"role": "assistant", "content": element["name"]}]}


def colours(_split: str, _options: Mapping[str, Any]) -> counterpoint.MapDataset:
    """The dataset of the config's entry."""
    return counterpoint.MapDataset(Colours(), colour_row, identity="colours 1")


NUMBERS = 80


def numbers(start: int) -> Iterator[int]:
    """A stream that can begin anywhere."""
    return iter(range(start, NUMBERS))


def sum_row(number: int) -> counterpoint.TokenRow:
    """The digits of two numbers and, with a loss, of their sum: tokens as they are."""
    asked = [BOS, FIRST_DIGIT + number // 10, FIRST_DIGIT + number % 10]
    answer = [*(FIRST_DIGIT + int(digit) for digit in str(number // 10 + number % 10)), EOS]
    return counterpoint.TokenRow([*asked, *answer], [False] * len(asked) + [True] * len(answer))


def sums(_split: str, _options: Mapping[str, Any]) -> counterpoint.StreamDataset:
    """The stream, and the sizes of all its rows."""
    sizes = counterpoint.measure_rows(numbers(0), sum_row)
    return counterpoint.StreamDataset(numbers, sizes, sum_row, identity="sums 1")


class Squares(counterpoint.Samples):
    """Grey squares, and the digits of how long their sides are."""

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def identity(self) -> str:
        return f"squares 1, {self.count}"

    def __len__(self) -> int:
        return self.count

    def size(self, index: int) -> counterpoint.SampleSize:
        side = self._side(index)
        square = counterpoint.SampleItem(position=1, kind="image", extent=(side, side))
        return counterpoint.SampleSize(tokens=4, targets=((1, 4),), items=(square,))

    def tokens(self, index: int) -> Sequence[int]:
        tens, ones = divmod(self._side(index), 10)
        return [BOS, FIRST_DIGIT + tens, FIRST_DIGIT + ones, EOS]

    def files(self, index: int, _which: int) -> Sequence[bytes]:
        file, side = io.BytesIO(), self._side(index)
        Image.new("RGB", (side, side), "grey").save(file, "PNG")
        return [file.getvalue()]

    def _side(self, index: int) -> int:
        return 8 + index % 40


def squares(_split: str, options: Mapping[str, Any]) -> Squares:
    """As many squares as the config says."""
    return Squares(options["count"])


# At the top level, because every rank imports this script again.
counterpoint.register_source("colours", colours)
counterpoint.register_source("sums", sums)
counterpoint.register_source("squares", squares)


def tokenizer_file(folder: Path) -> Path:
    """A tokenizer of bytes, for the conversations of `colours`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<bos>", "<eos>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / f"tokenizer.{os.getpid()}"))
    os.replace(folder / f"tokenizer.{os.getpid()}", folder / "tokenizer.json")
    return folder / "tokenizer.json"


def config(folder: Path) -> dict[str, Any]:
    """A run below a folder."""
    optimizer = {"lr": 3.0e-3, "weight_decay": 0.05}
    return {
        "run": {"dir": str(folder / "run"), "device": "cpu"},
        "world": {"size": 4},
        "modules": {
            "vision": {
                "model": {
                    "kind": "vit", "layers": 2, "hidden": 32, "heads": 4, "ffn": 64, "patch": 8, "positions": 8,
                    "image": {"max_patches": 64}, "projector": {"kind": "mlp", "hidden": 32},
                },
                "layout": {"ranks": [0, 1], "dp_shard": 2},
                "optimizer": optimizer,
            },
            "language": {
                "model": {"kind": "decoder", "pattern": "*-*-", "hidden": 32, "heads": 4, "ffn": 64, "vocab": 260},
                "layout": {"ranks": [2, 3]},
                "optimizer": optimizer,
            },
        },
        "edges": [{"source": "vision", "target": "language"}],
        "schedule": {"microbatches": 2},
        "data": {
            "train": [
                {"registered": "colours", "cache": str(folder / "sizes"), "weight": 2.0},
                {"registered": "sums", "order": "sequential"},
                {"registered": "squares", "options": {"count": 64}},
            ],
            "tokenizer": str(tokenizer_file(folder)),
            "sequence_tokens": 96,
            "packing": True,
        },
        "training": {"steps": 100, "global_batch_samples": 16},
        "checkpoint": {"resume": "none"},
    }  # fmt: skip


if __name__ == "__main__":
    counterpoint.train(config(Path("runs/own_data")), sys.argv[1:])
