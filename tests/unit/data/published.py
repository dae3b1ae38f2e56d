"""Tiny datasets, each written by the library that publishes its kind, or as its files are published."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SPEAKERS = ("system", "chatgpt", "user", "bing")
PICTURES = {"a.png": (8, 12), "b.png": (16, 8)}
QUESTION, ANSWER = "What?", "A red square."

Write = Callable[[Path], None]


def picture(name: str) -> bytes:
    """A plain picture, of a size of its own."""
    data = io.BytesIO()
    Image.new("RGB", PICTURES[name], (200, 30, len(name))).save(data, "PNG")
    return data.getvalue()


def sound() -> bytes:
    """A WAV file of a tenth of a second."""
    import wave

    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(3200))
    return data.getvalue()


def from_human(question: str = f"<image>\n{QUESTION}", answer: str = ANSWER) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def of_user(question: Any = f"<image>\n{QUESTION}", answer: Any = ANSWER) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        (folder / name).write_bytes(picture(name))


def write_json(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records))


def write_lines(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def inside(name: str, path: str | None = None) -> dict[str, Any]:
    """A picture as `datasets` stores it."""
    return {"bytes": picture(name), "path": path}


def dataset(rows: list[dict[str, Any]], **features: Any) -> Any:
    """A dataset of the library."""
    datasets = pytest.importorskip("datasets")
    # Encoding sound needs torchcodec, which a cast of encoded files does not.
    sounds = {name: one for name, one in features.items() if isinstance(one, datasets.Audio)}
    encoded = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features |= dict.fromkeys(sounds, encoded)
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    for name, one in sounds.items():
        table = table.cast_column(name, one)
    return table


def feature(kind: str) -> Any:
    """A feature of the library: Image, Audio, text, number, or a list in brackets."""
    datasets = pytest.importorskip("datasets")
    if kind.startswith("["):
        return datasets.List(feature(kind[1:-1]))
    if kind in ("Image", "Audio", "Video"):
        return getattr(datasets, kind)()
    return datasets.Value({"text": "string", "number": "int64"}[kind])


def structs(*names: str) -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.List({name: datasets.Value("string") for name in names})


def to_parquet(table: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(path))


def write_tar(path: Path, samples: list[dict[str, Any]]) -> None:
    """A tar as `webdataset` writes it."""
    webdataset = pytest.importorskip("webdataset")
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as tar:
        for sample in samples:
            tar.write(sample)


def llava(folder: Path) -> None:
    write_pictures(folder / "coco")
    write_json(
        folder / "llava_v1_5_mix665k.json",
        [
            {"id": "1", "image": "coco/a.png", "conversations": from_human()},
            {"id": "1", "model": "", "conversations": from_human("Hello?")},
            {"id": "2", "image": "coco/b.png", "conversations": from_human(f"{QUESTION}\n<image>")},
        ],
    )


def sharegpt(folder: Path) -> None:
    write_json(
        folder / "sharegpt.json",
        [
            {
                "id": "x",
                "conversations": [{"from": who, "value": "Hi."} for who in ("system", "chatgpt", "user", "bing")],
            }
        ],
    )


def llava_next(folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "conversations": from_human(), "data_source": "s", "image": inside("a.png")},
        {"id": "2", "conversations": from_human("Hello?"), "data_source": "s", "image": None},
    ]
    table = dataset(
        rows, id=feature("text"), conversations=structs("from", "value"), data_source=feature("text"),
        image=feature("Image"),
    )  # fmt: skip
    to_parquet(table, folder / "data" / "train-00000-of-00002.parquet")
    to_parquet(table, folder / "data" / "train-00001-of-00002.parquet")
    to_parquet(table, folder / "data" / "validation-00000-of-00001.parquet")


ONE_VISION = "mapqa(cauldron,llava_format)"


def one_vision(folder: Path) -> None:
    for subset, image in (("ai2d(gpt4v)", "a.png"), (ONE_VISION, "b.png"), ("magpie[x]", None)):
        row = {"id": "1", "image": inside(image, image) if image else None,
               "conversations": from_human() if image else from_human("Hello?"), "data_source": subset}  # fmt: skip
        table = dataset(
            [row], id=feature("text"), image=feature("Image"), conversations=structs("from", "value"),
            data_source=feature("text"),
        )  # fmt: skip
        to_parquet(table, folder / subset / "train-00000-of-00001.parquet")


def cauldron(folder: Path) -> None:
    pairs = [{"user": QUESTION, "assistant": ANSWER, "source": "ai2d"}] * 2
    table = dataset(
        [{"images": [inside("a.png"), inside("b.png")], "texts": pairs}], images=feature("[Image]"),
        texts=structs("user", "assistant", "source"),
    )  # fmt: skip
    to_parquet(table, folder / "ai2d" / "train-00000-of-00001-2ce340398c113b79.parquet")


def finevision(folder: Path) -> None:
    pairs = [{"assistant": ANSWER, "user": QUESTION}]
    rows: list[dict[str, Any]] = [
        {"texts": pairs, "source": "x", "images": [inside(name)], "relevance_ratings": [rating],
         "relevance_min": rating}
        for name, rating in (("a.png", 5), ("b.png", 2))
    ]  # fmt: skip
    rows.append({"texts": pairs, "source": "x", "images": [], "relevance_ratings": None, "relevance_min": None})
    table = dataset(
        rows, texts=structs("assistant", "user"), source=feature("text"), images=feature("[Image]"),
        relevance_ratings=feature("[number]"), relevance_min=feature("number"),
    )  # fmt: skip
    to_parquet(table, folder / "train-00000-of-00001.parquet")


ADDRESS = "https://example.org/pictures/a.png?width=3"


def obelics(folder: Path) -> None:
    row = {"images": [None, ADDRESS, None], "texts": ["First.", None, "Second."],
           "metadata": json.dumps([None, {"src": ADDRESS}, None]), "general_metadata": "{}"}  # fmt: skip
    table = dataset(
        [row], images=feature("[text]"), metadata=feature("text"), general_metadata=feature("text"),
        texts=feature("[text]"),
    )  # fmt: skip
    to_parquet(table, folder / "data" / "train-00000-of-00001.parquet")
    write_pictures(folder / "fetched")


def mmc4(folder: Path) -> None:
    info = {"image_name": "a.png", "matched_text_index": 1, "matched_sim": 0.3, "face_detections": None, "raw_url": "x"}
    write_lines(
        folder / "docs_shard_0_v2.jsonl",
        [{"text_list": ["First.", "Second."], "url": "u", "image_info": [info], "similarity_matrix": [[0.1, 0.3]],
          "could_have_url_duplicate": 0}],
    )  # fmt: skip
    write_pictures(folder)


def audioset(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    row = {"video_id": "v", "audio": {"bytes": sound(), "path": "v.flac"}, "labels": ["/m/09x0r", "/m/04rlf"],
           "human_labels": ["Speech", "Music"]}  # fmt: skip
    table = dataset(
        [row], video_id=feature("text"), audio=datasets.Audio(decode=False), labels=feature("[text]"),
        human_labels=feature("[text]"),
    )  # fmt: skip
    to_parquet(table, folder / "data" / "bal_train" / "00.parquet")


def audioset_tars(folder: Path) -> None:
    write_tar(
        folder / "train" / "shard-000000.tar",
        [{"__key__": "v1", "wav": sound(), "json": {"video_id": "v1", "labels": ["Speech"]}}],
    )


def librispeech(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    row = {"file": "1.flac", "audio": {"bytes": sound(), "path": "1.flac"}, "text": "HELLO", "speaker_id": 1,
           "chapter_id": 2, "id": "1-2"}  # fmt: skip
    table = dataset(
        [row], file=feature("text"), audio=datasets.Audio(decode=False), text=feature("text"),
        speaker_id=feature("number"), chapter_id=feature("number"), id=feature("text"),
    )  # fmt: skip
    to_parquet(table, folder / "train.clean.100" / "0000.parquet")


def nemotron(folder: Path) -> None:
    import tarfile

    part = {"type": "image", "image": "pictures/a.png",
            "metadata": {"width": 8, "height": 12, "format": "PNG", "mode": "RGB"}}  # fmt: skip
    text = {"type": "text", "text": QUESTION}
    write_lines(
        folder / "captions.jsonl", [{"id": "1", "messages": of_user([part, text], [{"type": "text", "text": ANSWER}])}]
    )
    write_pictures(folder.parent / "pictures")
    with tarfile.open(folder / "shard_000000.tar", "w") as tar:
        tar.add(folder.parent / "pictures", "pictures")


def openai(folder: Path) -> None:
    encoded = base64.b64encode(picture("a.png")).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}", "detail": "low"}}
    speech = {"type": "input_audio", "input_audio": {"data": base64.b64encode(sound()).decode(), "format": "wav"}}
    write_lines(
        folder / "train.jsonl",
        [{"messages": of_user([part, speech, {"type": "text", "text": QUESTION}])}, {"messages": of_user("Hello?")}],
    )


def trl(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    part = {"type": datasets.Value("string"), "text": datasets.Value("string"), "index": datasets.Value("int64")}
    user = [{"type": "image", "text": None, "index": 0}, {"type": "text", "text": QUESTION, "index": None}]
    row = {"messages": of_user(user, [{"type": "text", "text": ANSWER, "index": None}]), "images": [inside("a.png")]}
    table = dataset(
        [row], messages=datasets.List({"role": datasets.Value("string"), "content": datasets.List(part)}),
        images=feature("[Image]"),
    )  # fmt: skip
    to_parquet(table, folder / "data" / "train-00000-of-00001.parquet")


def llama_factory(folder: Path) -> None:
    write_pictures(folder)
    (folder / "a.wav").write_bytes(sound())
    write_json(
        folder / "mllm_demo.json",
        [{"messages": of_user("<image><audio>What?"), "images": ["a.png"], "audios": ["a.wav"], "videos": [],
          "system": "Be brief."}],
    )  # fmt: skip


def alpaca(folder: Path) -> None:
    write_json(folder / "alpaca.json", [{"instruction": "Translate.", "input": "Katze", "output": "cat"}])


def captions(folder: Path) -> None:
    write_tar(
        folder / "00000.tar",
        [{"__key__": f"{number:04d}", "png": picture(name), "txt": ANSWER, "json": {"width": number}}
         for number, name in enumerate(PICTURES)],
    )  # fmt: skip


def energon(folder: Path) -> None:
    samples = [{"__key__": "0", "png": picture("a.png"), "json": {"said": {"en": ANSWER}, "url": "u"}}]
    for number in range(3):
        write_tar(folder / f"shard_{number}.tar", samples)
    (folder / ".nv-meta").mkdir()
    (folder / ".nv-meta" / "dataset.yaml").write_text(
        "__module__: megatron.energon\n__class__: CaptioningWebdataset\n"
        "field_map:\n  image: png\n  caption: json[said][en]\n"
    )
    (folder / ".nv-meta" / "split.yaml").write_text(
        "split_parts:\n  train: ['shard_{0..1}.tar']\n  val: [shard_2.tar]\nexclude: [shard_1.tar]\n"
    )


def saved(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = dataset(
        [{"image": inside("a.png"), "caption": ANSWER}, {"image": inside("b.png"), "caption": "Blue."}],
        image=feature("Image"), caption=feature("text"),
    )  # fmt: skip
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(str(folder), num_shards=None)


def images_with_texts(folder: Path) -> None:
    write_pictures(folder / "inner")
    for name in PICTURES:
        (folder / "inner" / name).with_suffix(".txt").write_text(f"{name[0]}.\n")
