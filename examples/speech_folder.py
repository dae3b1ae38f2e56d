"""Spoken and drawn numbers from 0 to 99 as a folder of conversations in the LLaVA form; the answers are their words.

    pip install espeakng-loader
    python examples/speech_folder.py data/numbers_source
    counterpoint prepare data/numbers_source data/numbers

Speech is espeak-ng's (GPL, optional; only this script calls it). Held out are whole families of voices (split
`voices`), other drawings of the numbers that training draws (`drawings`), and drawings of numbers that training only
speaks (`compositions`).
"""

import ctypes
import importlib.util
import json
import random
import re
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SPOKEN = 60
"""Clips of every number in the split `train`; as many drawings of every number that is drawn there."""

HELD_OUT_SPOKEN, HELD_OUT_DRAWN = 3, 2
"""Clips and drawings of every number in the splits that training never shows."""

ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
WORDS_A_MINUTE, PITCH = (130, 210), (30, 70)
HELD_OUT_FAMILY = 6
"""One family of voices in so many is held out."""

RATE, ENGINE_RATE = 16_000, 22_050
SIDE = 48
"""Pixels of a drawing's sides."""

_RETRIEVE, _UTF8 = 2, 1
_SPEED_PARAMETER, _PITCH_PARAMETER = 1, 3
"""Values of espeak-ng's speak_lib.h."""

_BLOCK, _RESAMPLED_BLOCK = 441, 320
"""So many samples at the engine's rate are so many at ours."""

_QUIET = 0.01
_MARGIN_SECONDS = 0.03
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
    "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def main(out: Path) -> None:
    """Write clips, drawings and one file of conversations for each split to `out`."""
    (out / "clips").mkdir(parents=True)
    (out / "drawings").mkdir()
    draw = random.Random(0)
    training, held_out = families(variants())
    drawn = [number for number in range(100) if not only_spoken(number)]
    speak = speaker()
    splits = {
        "train": [*spoken(out, "train", speak, training, SPOKEN, draw), *drawings(out, "train", drawn, SPOKEN, draw)],
        "voices": [*spoken(out, "voices", speak, held_out, HELD_OUT_SPOKEN, draw)],
        "drawings": [*drawings(out, "drawings", drawn, HELD_OUT_DRAWN, draw)],
        "compositions": [
            *drawings(out, "compositions", sorted(set(range(100)) - set(drawn)), 10 * HELD_OUT_DRAWN, draw)
        ],
    }
    for split, records in splits.items():
        (out / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    counts = ", ".join(f"{split} {len(records)}" for split, records in splits.items())
    print(f"{out}: {counts}; {len(training)} voices in training, {len(held_out)} held out: {', '.join(held_out)}")


def words(number: int) -> str:
    """The English words of a number below 100."""
    if number < len(_ONES):
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


def only_spoken(number: int) -> bool:
    """Whether training never draws a number: one of every ten from 20 on, whose two digits it draws in others."""
    tens, ones = divmod(number, 10)
    return tens >= 2 and ones == tens * 3 % 10


def spoken(
    out: Path, split: str, speak: Callable[..., np.ndarray], voices: list[str], each: int, draw: random.Random
) -> Iterator[dict[str, Any]]:
    """`each` clips of every number, voices, accents, speeds and pitches drawn for each."""
    for number in range(100):
        for copy in range(each):
            name = f"clips/{split}-{number:02d}-{copy:02d}.wav"
            voice = f"{draw.choice(ACCENTS)}+{draw.choice(voices)}"
            sound = speak(words(number), voice, draw.randint(*WORDS_A_MINUTE), draw.randint(*PITCH))
            write_wave(out / name, sound)
            yield conversation("audio", name, number)


def drawings(out: Path, split: str, numbers: list[int], each: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    """`each` drawings of every number, of many sizes, places, slants and colours."""
    for number in numbers:
        for copy in range(each):
            name = f"drawings/{split}-{number:02d}-{copy:02d}.png"
            drawing(number, draw).save(out / name)
            yield conversation("image", name, number)


def conversation(kind: str, name: str, number: int) -> dict[str, Any]:
    """A number's record: the file, what stands for it, and the words that are its answer."""
    turns = [{"from": "human", "value": f"<{kind}>"}, {"from": "gpt", "value": words(number)}]
    return {kind: name, "conversations": turns}


def drawing(number: int, draw: random.Random) -> Image.Image:
    """A number's digits in a dark colour on a light one, turned by up to 10 degrees, not quite in the middle."""
    paper, ink = [draw.randint(180, 255) for _ in range(3)], [draw.randint(0, 90) for _ in range(3)]
    picture = Image.new("RGB", (SIDE, SIDE), tuple(paper))
    middle = (SIDE / 2 + draw.uniform(-3, 3), SIDE / 2 + draw.uniform(-3, 3))
    font = ImageFont.load_default(draw.uniform(24, 32))
    ImageDraw.Draw(picture).text(middle, str(number), fill=tuple(ink), font=font, anchor="mm")
    turned = picture.rotate(draw.uniform(-10, 10), Image.Resampling.BILINEAR, fillcolor=tuple(paper))
    noise = np.random.default_rng(draw.getrandbits(32)).normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray((np.asarray(turned) + noise).clip(0, 255).astype(np.uint8))


def variants() -> list[str]:
    """The engine's voices, which any accent can be spoken with."""
    return sorted(path.name for path in (package_folder() / "espeak-ng-data" / "voices" / "!v").iterdir())


def families(voices: list[str]) -> tuple[list[str], list[str]]:
    """Voices of training and held out; those that differ in a number alone are of one family and stay together."""
    family_of = {voice: re.sub(r"\d+$", "", voice).lower() for voice in voices}
    names = sorted(set(family_of.values()))
    held_out = set(names[HELD_OUT_FAMILY // 2 :: HELD_OUT_FAMILY])
    return (
        [voice for voice in voices if family_of[voice] not in held_out],
        [voice for voice in voices if family_of[voice] in held_out],
    )


def speaker() -> Callable[[str, str, int, int], np.ndarray]:
    """What speaks (text, voice, words a minute, pitch of 0-99) as 16 kHz float samples in [-1, 1], silence cut off."""
    library = ctypes.CDLL(str(next(package_folder().glob("*espeak-ng.*"))))
    rate = library.espeak_Initialize(_RETRIEVE, 0, str(package_folder()).encode(), 0)
    if rate != ENGINE_RATE:
        sys.exit(f"espeak-ng starts with a rate of {rate}, expected {ENGINE_RATE}; install another espeakng-loader")
    pieces: list[np.ndarray] = []

    def hear(samples: Any, count: int, _events: Any) -> int:
        if samples and count:
            pieces.append(np.ctypeslib.as_array(samples, (count,)) / 2**15)
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(hear)
    library.espeak_SetSynthCallback(callback)

    def speak(text: str, voice: str, speed: int, pitch: int) -> np.ndarray:
        pieces.clear()
        if library.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"espeak-ng has no voice {voice}; install another espeakng-loader")
        library.espeak_SetParameter(_SPEED_PARAMETER, speed, 0)
        library.espeak_SetParameter(_PITCH_PARAMETER, pitch, 0)
        library.espeak_Synth(text.encode(), len(text) + 1, 0, 0, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        return without_silence(resampled(np.concatenate(pieces)))

    speak.callback = callback  # type: ignore[attr-defined]  # The engine keeps no reference to it.
    return speak


def resampled(sound: np.ndarray) -> np.ndarray:
    """The samples at our rate: the same spectrum up to half of it."""
    filled = np.concatenate([sound, np.zeros(-len(sound) % _BLOCK)])
    count = len(filled) // _BLOCK * _RESAMPLED_BLOCK
    return np.fft.irfft(np.fft.rfft(filled)[: count // 2 + 1], count) * (count / len(filled))


def without_silence(sound: np.ndarray) -> np.ndarray:
    """The samples from a little before the first loud one to a little behind the last."""
    (loud,) = np.nonzero(np.abs(sound) > _QUIET)
    margin = int(_MARGIN_SECONDS * RATE)
    return sound[max(int(loud[0]) - margin, 0) : int(loud[-1]) + margin]


def write_wave(path: Path, sound: np.ndarray) -> None:
    """Samples in [-1, 1] as one channel of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * (2**15 - 1)).clip(-(2**15), 2**15 - 1).astype("<i2").tobytes())


def package_folder() -> Path:
    """Where the engine lies."""
    spec = importlib.util.find_spec("espeakng_loader")
    if spec is None or spec.origin is None:
        sys.exit("the package espeakng-loader is missing; pip install espeakng-loader")
    return Path(spec.origin).parent


if __name__ == "__main__":
    main(Path(sys.argv[1]))
