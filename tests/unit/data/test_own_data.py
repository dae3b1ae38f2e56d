"""Data of a Python program: rows are laid out as prepared ones are, sizes are kept, and what changes is noticed."""

import io
import json
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import counterpoint
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.fingerprint import first_difference
from counterpoint.data.order.order import Order
from counterpoint.data.own.cache import SizesCache
from counterpoint.data.own.files import file_bytes
from counterpoint.data.own.rows import LaidRow, spans_of
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import train_tokenizer
from counterpoint.errors import ConfigError, DataError
from counterpoint.kinds.modality import Intakes
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.setup.data import identity_of
from counterpoint.sources.entry import Opening
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.registered.registered import REGISTERED_SOURCES
from counterpoint.sources.registered.samples import Samples
from counterpoint.sources.registered.source import SamplesSource
from counterpoint.sources.registered.spec import RegisteredEntry
from counterpoint.sources.source import load_item_or_neutral
from tests.unit.items import MakeClip, MakePicture, patches_of

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"
INTAKES: Intakes = {
    "vision": ImageIntake("vision", ImageConfig(max_patches=64), patch=4),
    "audio": ClipIntake("audio", mels=8, window=5, stride=2, stack=2, positions=100),
    "features": FeatureIntake("features", 3),
}
Build = Callable[..., Any]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forgets what a test registers, and keeps sizes in the test's folder."""
    monkeypatch.setattr(REGISTERED_SOURCES, "_kinds", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    train_tokenizer(["What is it? a cat and a dog", "yes no"], 300, tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def _opened(
    dataset: object, tokenizer: Path | None = None, *, rows: int = 64, order: str = "shuffled"
) -> SamplesSource:
    name = f"mine_{len(REGISTERED_SOURCES)}"
    counterpoint.register_source(name, lambda _split, _options: dataset)  # type: ignore[arg-type, return-value]
    entry = RegisteredEntry.model_validate({"registered": name, "order": order})
    source = entry.open(0, Opening(INTAKES, rows, 300, tokenizer=tokenizer))
    assert isinstance(source, SamplesSource)
    return source


def _asked(*parts: object, answer: str = "a cat") -> dict[str, Any]:
    question = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _identical(row: object) -> object:
    return row


def test_rows_are_laid_out_as_prepared_records_are(
    tokenizer: Path, make_picture: MakePicture, make_clip: MakeClip, tmp_path: Path
) -> None:
    pictures, clip, array = [make_picture(8, 12), make_picture(20, 8)], make_clip(900), np.ones((2, 3), np.float32)
    files = {"a.png": pictures[0], "b.png": pictures[1], "c.wav": clip, "d.npy": file_bytes(array)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    given: list[dict[str, Any]] = [
        {"image": "a.png", "conversations": [{"from": "human", "value": "<image> What?"},
                                             {"from": "gpt", "value": "cat"}]},
        {"audio": "c.wav", "features": "d.npy", "messages": [{"role": "user", "content": "<audio>no<features>"},
                                                             {"role": "assistant", "content": "yes"}]},
        {"video": ["a.png", "a.png"], "messages": [{"role": "user", "content": "<video> and"},
                                                   {"role": "assistant", "content": "dog"}]},
        _asked("What", {"type": "image", "image": "b.png"}, "is it"),
    ]  # fmt: skip
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, given)))
    prepare(str(tmp_path / "train.jsonl"), tmp_path / "index", PrepareOptions(tokenizer=tokenizer))
    prepared = PreparedSource(tmp_path / "index", "train", 0, INTAKES, 64)

    def with_objects(row: dict[str, Any]) -> dict[str, Any]:
        """The same row with media in the program's own forms."""
        text = json.dumps(row)
        objects: dict[str, object] = {
            "a.png": Image.open(io.BytesIO(pictures[0])), "b.png": {"bytes": pictures[1], "path": None},
            "c.wav": clip, "d.npy": array,
        }  # fmt: skip

        def replaced(value: object) -> object:
            if isinstance(value, dict):
                return {key: replaced(inner) for key, inner in value.items()}
            if isinstance(value, list):
                return [replaced(inner) for inner in value]
            return objects.get(value, value) if isinstance(value, str) else value

        found = replaced(json.loads(text))
        assert isinstance(found, dict)
        return found

    for source in (
        _opened(counterpoint.MapDataset(given, with_objects), tokenizer),
        _opened(counterpoint.MapDataset(given, _identical, files=tmp_path, workers=3), tokenizer),
        _opened(
            counterpoint.StreamDataset(
                lambda start: iter(given[start:]),
                counterpoint.measure_rows(given, with_objects, tokenizer=tokenizer),
                with_objects,
                identity="1",
            ),
            tokenizer,
            order="sequential",
        ),
    ):
        assert len(source) == len(prepared) == 4
        assert source.census == prepared.census
        assert source.videos == prepared.videos == {"vision": 1, "audio": 0, "features": 0}
        for index in range(4):
            assert source.document(index) == prepared.document(index)
            assert source.text(index).ids.tolist() == prepared.text(index).ids.tolist()
            assert source.text(index).labels.tolist() == prepared.text(index).labels.tolist()
            for which, item in enumerate(source.document(index).items):
                assert source.extent(index, which) == prepared.extent(index, which)
                ours, error = load_item_or_neutral(source, index, which, item)
                theirs = prepared.item(index, which)
                assert error is None
                assert (type(ours), ours.rows, ours.described) == (type(theirs), theirs.rows, theirs.described)
                if item.module == "vision":
                    assert patches_of(ours).patches.tolist() == patches_of(theirs).patches.tolist()


def test_datasets_of_others_are_taken(tokenizer: Path, make_picture: MakePicture) -> None:
    datasets = pytest.importorskip("datasets")
    data = pytest.importorskip("torch.utils.data")
    rows = [{"photo": {"bytes": make_picture(8, 4 * n), "path": None}, "said": f"{n}?"} for n in range(1, 6)]

    def row(element: dict[str, Any]) -> dict[str, Any]:
        return _asked("What", {"type": "image", "image": element["photo"]}, answer=element["said"])

    features = datasets.Features({"photo": datasets.Image(), "said": datasets.Value("string")})
    decoded = datasets.Dataset.from_list(rows, features=features)
    raw = decoded.cast_column("photo", datasets.Image(decode=False))

    class OfTorch(data.Dataset):  # type: ignore[name-defined, misc]
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return rows[index]

    sources = [_opened(counterpoint.MapDataset(one, row), tokenizer) for one in (rows, decoded, raw, OfTorch())]
    for index in range(5):
        assert len({source.document(index) for source in sources}) == 1
        assert len({source.text(index).ids.tobytes() for source in sources}) == 1
        assert len({patches_of(source.item(index, 0)).patches.tobytes() for source in sources}) == 1


class _Counting:
    """Rows that count how often they are read."""

    def __init__(self, count: int, make_picture: MakePicture) -> None:
        self.reads: list[int] = []
        self._rows = [
            _asked("What", {"type": "image", "image": make_picture(8, 4 + n % 9)}, f"{n}?") for n in range(count)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.reads.append(index)
        return self._rows[index]


def test_rows_have_any_shape_that_prepare_reads(
    tokenizer: Path, make_picture: MakePicture, make_clip: MakeClip
) -> None:
    picture = make_picture(8, 8)
    rows: list[dict[str, Any]] = [
        {"images": [picture, picture], "texts": [{"user": "What is it?", "assistant": "a cat"}]},
        {"image": {"bytes": picture, "path": None}, "caption": "a cat"},
        {"audio": make_clip(900), "text": "yes"},
        {"question": "What is it?", "answer": "a dog", "image": picture},
    ]
    source = _opened(counterpoint.MapDataset(rows, _identical), tokenizer)
    assert [len(source.document(index).items) for index in range(4)] == [2, 1, 1, 1]
    assert all(source.document(index).loss_tokens > 0 for index in range(4))


def test_keys_that_nothing_would_read_are_refused(tokenizer: Path, make_picture: MakePicture) -> None:
    rows = [{"image": make_picture(8, 8), "caption": "a cat", "weight": 0}]
    said = r"nothing would read weight \(number\) of its keys .*; leave it out in the function of the row"
    with pytest.raises(DataError, match=said):
        _opened(counterpoint.MapDataset(rows, _identical), tokenizer)


def test_sizes_are_computed_once(tokenizer: Path, make_picture: MakePicture, tmp_path: Path) -> None:
    rows = _Counting(60, make_picture)
    source = _opened(counterpoint.MapDataset(rows, _identical), tokenizer)
    assert set(rows.reads) == set(range(60))
    text = source.text(17).ids.tolist()
    rows.reads.clear()
    again = _opened(counterpoint.MapDataset(rows, _identical), tokenizer)
    assert len(rows.reads) == 2 * 16
    restored = pickle.loads(pickle.dumps(again))
    assert restored.text(17).ids.tolist() == text
    assert restored.item(17, 0).rows == restored.document(17).items[0].rows_in
    rows.reads.clear()
    assert [again.document(n) for n in range(60)] == [source.document(n) for n in range(60)]
    assert again.text(17).ids.tolist() == text
    assert rows.reads == []
    assert again.item(17, 0).rows == again.document(17).items[0].rows_in
    assert rows.reads == [17]
    train_tokenizer(["another"], 290, tmp_path / "other.json")
    _opened(counterpoint.MapDataset(rows, _identical), tmp_path / "other.json")
    assert set(rows.reads) == set(range(60))


def test_what_changes_is_noticed(tokenizer: Path, make_picture: MakePicture) -> None:
    rows = _Counting(40, make_picture)
    source = _opened(counterpoint.MapDataset(rows, _identical), tokenizer)
    rows._rows[7] = _asked("What", {"type": "image", "image": make_picture(8, 40)}, "7?")
    with pytest.raises(DataError, match=r"row 7: its files have \[\[\d+\]\] bytes, but \[\[\d+\]\] when sizes were"):
        source.item(7, 0)
    neutral, error = load_item_or_neutral(source, 7, 0, source.document(7).items[0])
    assert (neutral.rows, error is None) == (source.document(7).items[0].rows_in, False)
    generator = np.random.default_rng(0)

    def noisy(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"system": str(generator.random())}

    with pytest.raises(DataError, match="row 0: it is another one when it is read again, expected the same"):
        _opened(counterpoint.MapDataset(rows, noisy), tokenizer)


def test_the_identity_is_that_of_the_content() -> None:
    rows = [counterpoint.TokenRow([1, number], [False, True]) for number in range(20)]
    datasets = {
        "same": counterpoint.MapDataset(list(rows), _identical),
        "declared": counterpoint.MapDataset(rows, _identical, identity="2"),
        "shorter": counterpoint.MapDataset(rows[:-1], _identical),
        "other": counterpoint.MapDataset([*rows[:-1], rows[0]], _identical),
        "chat": counterpoint.MapDataset(rows, _identical, chat="captions"),
    }
    base = counterpoint.MapDataset(rows, _identical).identity
    assert base.startswith("20 rows, sha256 ")
    assert [name for name, dataset in datasets.items() if dataset.identity == base] == ["same"]


def _config(name: str, **keys: object) -> Config:
    data = load_config(TINY).resolved()
    data["data"]["train"] = [{"registered": name, **keys}]
    return load_config(data)


def test_a_run_does_not_resume_with_other_data() -> None:
    def build(_split: str, options: Mapping[str, Any]) -> counterpoint.MapDataset:
        return counterpoint.MapDataset([counterpoint.TokenRow([1, 2], [False, True])] * options["count"], _identical)

    counterpoint.register_source("mine", build)
    first, same, other = (
        identity_of(_config("mine", options=options, cache=cache)).fingerprint
        for options, cache in (({"count": 3}, "a"), ({"count": 3}, "b"), ({"count": 4}, "a"))
    )
    assert first == same
    assert first["data.train.0.identity"] != other["data.train.0.identity"]
    assert first_difference(first, other) in ("data.train.0.identity", "data.train.0.options")


def test_names_are_registered_once_and_known() -> None:
    counterpoint.register_source("mine", lambda _split, _options: counterpoint.MapDataset([1], _identical))
    with pytest.raises(ConfigError, match="got the name 'mine', which is taken"):
        counterpoint.register_source("mine", lambda _split, _options: counterpoint.MapDataset([1], _identical))
    with pytest.raises(
        ConfigError, match=r'data\.train\.0\.registered: got "mime", expected one of mine; did you mean mine'
    ):
        _config("mime")


@pytest.mark.parametrize(("build", "said"), [
    (lambda _split, _options: [1, 2], "got a list, expected a MapDataset, a StreamDataset or Samples"),
    (lambda _split, options: options["path"], "making it raised KeyError: 'path'; correct it"),
])  # fmt: skip
def test_what_is_no_dataset_is_refused(build: Build, said: str) -> None:
    counterpoint.register_source("mine", build)
    with pytest.raises(DataError, match=said):
        _config("mine").data.train[0].open(0, Opening(INTAKES, 64, 300))


def _tokens(tokens: Any, loss: Any) -> Callable[[object], object]:
    return lambda _row: counterpoint.TokenRow(tokens, loss)


def _raises(_row: object) -> object:
    raise ValueError("of mine")


@pytest.mark.parametrize(("row", "said"), [
    (_raises, "row 0: reading it raised ValueError: of mine"),
    (lambda _row: {"messages": 3}, "row 0: expected an object with a list 'conversations' or 'messages'"),
    (lambda _row: _asked({"type": "image", "image": object()}), "a row holds a object, expected bytes, a path"),
    (lambda _row: _asked({"type": "image", "image": b"nothing"}), "the image bytes cannot be read"),
    (lambda _row: _asked({"type": "image", "image": "a.png"}), "'a.png' is a name, but no folder of files was given"),
    (lambda _row: _asked({"type": "image", "image": np.zeros((2, 2, 9))}), r"an array float64 \(2, 2, 9\), expected"),
    (lambda _row: counterpoint.TokenRow([1, 2], [True]), "it has 1 marks of the loss for 2 tokens"),
    (lambda _row: counterpoint.TokenRow([1], [True], [(0, "smell", b"x")]), "an item of kind 'smell'"),
    (lambda _row: counterpoint.TokenRow([1], [True], [(2, "features", np.ones((1, 3)))]), r"positions \[2\] of its"),
    (lambda _row: counterpoint.TokenRow([1, 400], [False, True]), "holds token 400, but the model's vocab is 300"),
    (_tokens([1, -2], [False, True]), "row 0: it has a token -2, expected ids"),
    (_tokens([1, 2.5], [False, True]), "row 0: it has a token 2.5, expected ids"),
    (_tokens(["1", 2], [False, True]), "row 0: it has a token '1', expected ids"),
    (_tokens([1, 2], [-100, 2]), "row 0: it has a mark of the loss -100, expected True"),
    (_tokens([1, 2], [0, 0.5]), r"row 0: it has a mark of the loss 0\.5, expected True"),
    (lambda _row: counterpoint.TokenRow([1] * 99, [True] * 99, [(99, "features", np.ones((1, 3)))]), "none of its 1"),
])  # fmt: skip
def test_bad_rows_end_in_a_sentence(tokenizer: Path, row: Build, said: str) -> None:
    with pytest.raises(DataError, match=said):
        _opened(counterpoint.MapDataset([0], row), tokenizer)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_video_file_is_refused(tokenizer: Path, tmp_path: Path, kind: Callable[[str], object]) -> None:
    (tmp_path / "a.mp4").write_bytes(b"frames")
    given = kind("a.mp4" if kind is str else str(tmp_path / "a.mp4"))
    rows = [_asked({"type": "video", "video": given}, "What?")]
    with pytest.raises(DataError, match=r"row 0: video .* is a video file, expected the list of its pictures"):
        _opened(counterpoint.MapDataset(rows, _identical, files=tmp_path), tokenizer)


def test_a_conversation_needs_a_tokenizer() -> None:
    with pytest.raises(DataError, match=r"it is a conversation, but the config has no data\.tokenizer"):
        _opened(counterpoint.MapDataset([0], lambda _row: _asked("What?")))
    with pytest.raises(DataError, match="the dataset has no element"):
        _opened(counterpoint.MapDataset([], _identical))


class _Stream:
    """Numbers that note where they were begun, and how far they were read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.begun: list[int] = []
        self.read: list[int] = []

    def __call__(self, start: int) -> Iterator[int]:
        self.begun.append(start)
        for number in range(start, self.count):
            self.read.append(number)
            yield number


def _number(value: int) -> counterpoint.TokenRow:
    return counterpoint.TokenRow([1, value, 2], [False, True, True])


def _streamed(stream: _Stream, *, count: int | None = None, window: int = 8) -> counterpoint.StreamDataset:
    sizes = counterpoint.measure_rows(range(stream.count if count is None else count), _number)
    return counterpoint.StreamDataset(stream, sizes, _number, identity="1", window=window)


def test_a_stream_is_read_in_its_order_and_begun_where_a_run_goes_on() -> None:
    stream = _Stream(50)
    source = _opened(_streamed(stream), order="sequential")
    assert (stream.begun, stream.read) == ([], [])
    assert [source.text(index).ids.tolist()[1] for index in (20, 22, 21, 27, 20)] == [20, 22, 21, 27, 20]
    assert (stream.begun, stream.read) == ([20], list(range(20, 28)))
    assert source.text(45).ids[1] == 45
    assert stream.begun == [20, 45]
    assert source.text(3).ids[1] == 3
    assert stream.begun == [20, 45, 3]
    restored = pickle.loads(pickle.dumps(_opened(_streamed(stream), order="sequential")))
    assert restored.text(9).ids.tolist() == source.text(9).ids.tolist()


def test_a_stream_is_not_shuffled() -> None:
    with pytest.raises(DataError, match="it is a stream, which cannot be shuffled"):
        _opened(_streamed(_Stream(5)))
    with pytest.raises(DataError, match="got the identity '' and a window of 8"):
        counterpoint.StreamDataset(_Stream(5), [], _number, identity="", window=8)


def test_a_stream_that_is_not_as_declared_is_refused() -> None:
    short = _opened(_streamed(_Stream(3), count=5), order="sequential")
    assert short.text(2).ids[1] == 2
    with pytest.raises(DataError, match="the stream ends before row 3, but 5 rows were declared"):
        short.text(3)
    sizes = counterpoint.measure_rows([1, 2], lambda value: counterpoint.TokenRow([1, value], [False, True]))
    wrong = _opened(counterpoint.StreamDataset(_Stream(2), sizes, _number, identity="1"), order="sequential")
    with pytest.raises(DataError, match=r"row 1: it is SampleSize\(tokens=3.*but was declared as SampleSize\(tokens=2"):
        wrong.text(1)


def test_a_sequential_source_keeps_its_order_epoch_by_epoch() -> None:
    order = Order(seed=3, sizes=(7, 5), weights=(1, 1), window=4, sequential=frozenset({1}))
    draws = [draw for step in range(10) for draw in order.draws(step)]
    assert [index for source, index in draws if source == 1] == [*range(5)] * 4
    shuffled = [index for source, index in draws if source == 0]
    assert shuffled[:7] != [*range(7)]
    assert sorted(shuffled[:7]) == [*range(7)]
    some = Order(seed=3, sizes=(7, 5), weights=(1, 1), window=4, counts=(7, 3), sequential=frozenset({1}))
    assert [index for step in range(6) for source, index in some.draws(step) if source == 1] == [*range(3)] * 4


class _Fixed(Samples):
    """Samples of some sizes."""

    def __init__(self, *sizes: counterpoint.SampleSize, ids: float = 5) -> None:
        self._sizes, self._ids = sizes, ids

    @property
    def identity(self) -> str:
        return "fixed"

    def __len__(self) -> int:
        return len(self._sizes)

    def size(self, index: int) -> counterpoint.SampleSize:
        return self._sizes[index]

    def tokens(self, index: int) -> list[Any]:
        return [self._ids] * self._sizes[index].tokens

    def files(self, _index: int, _which: int) -> list[bytes]:
        return [file_bytes(np.ones((2, 3), np.float32))]


def _size(tokens: int, *targets: tuple[int, int], position: int | None = None) -> counterpoint.SampleSize:
    items = () if position is None else (counterpoint.SampleItem(position, "features", (2, 3)),)
    return counterpoint.SampleSize(tokens, targets, items)


@pytest.mark.parametrize(("ids", "said"), [(-2, "type int64, the least -2"), (2.5, r"type float64, the least 2\.5")])
def test_tokens_of_samples_that_are_no_ids_are_refused(ids: float, said: str) -> None:
    source = _opened(_Fixed(_size(3, (1, 3)), ids=ids))
    with pytest.raises(DataError, match=rf"sample 0 has tokens of {said}, expected ids, whole numbers from 0"):
        source.text(0)


def test_samples_are_cut_and_left_out_as_prepared_documents_are() -> None:
    sizes = _size(9, (3, 5), (7, 9)), _size(6, (0, 6), position=6), _size(0), _size(3, (1, 3), position=1)
    source = _opened(_Fixed(*sizes), rows=6)
    assert [source.where(index).split()[-1] for index in range(len(source))] == ["0", "3"]
    assert [source.document(index).tokens for index in range(2)] == [6, 5]
    assert (source.census.cut, sum(source.census.left_out.values())) == (1, 2)
    assert [int((source.text(index).labels >= 0).sum()) for index in range(2)] == [2, 2]
    assert [source.document(index).loss_tokens for index in range(2)] == [2, 2]
    copy = pickle.loads(pickle.dumps(source))
    assert [copy.document(index) for index in range(2)] == [source.document(index) for index in range(2)]
    assert copy.item(1, 0).rows == 2


@pytest.mark.parametrize(("size", "said"), [
    (_size(3, (2, 1)), "its targets ((2, 1),) are no ascending spans within its 3 tokens"),
    (_size(3, (1, 4)), "are no ascending spans"),
    (_size(3, (1, 1)), "are no ascending spans"),
    (_size(3, (0, 2), (1, 3)), "are no ascending spans"),
    (_size(3, position=4), "the positions [4] of its items do not ascend within 0 to 3"),
    (counterpoint.SampleSize(2, (), (counterpoint.SampleItem(0, "image", (3,)),)), "has the size (3,) in 1 files"),
    (counterpoint.SampleSize(2, (), (counterpoint.SampleItem(0, "image", (3, 0)),)), "expected positive numbers"),
    (counterpoint.SampleSize(2, (), (counterpoint.SampleItem(0, "smell", (3, 2)),)), "an item of kind 'smell'"),
    (counterpoint.SampleSize(2, (), (counterpoint.SampleItem(0, "depth", (3, 2)),)), "a modality without a module"),
])  # fmt: skip
def test_sizes_that_contradict_themselves_are_refused(size: counterpoint.SampleSize, said: str) -> None:
    with pytest.raises(DataError) as raised:
        _opened(_Fixed(_size(1, (0, 1)), size))
    assert said in str(raised.value)


def test_tokens_that_are_not_as_sized_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _opened(_Fixed(_size(4, (0, 4)), ids=300))
    with pytest.raises(DataError, match="holds token 300, but the model's vocab is 300"):
        source.text(0)
    monkeypatch.setattr(_Fixed, "tokens", lambda _self, _index: [1, 2, 3])
    with pytest.raises(DataError, match=r"sample 0 has tokens of shape \(3,\), but its size says 4"):
        source.text(0)


def test_sizes_are_written_by_one(tmp_path: Path) -> None:
    written: list[int] = []

    def rows(number: int) -> Iterator[LaidRow]:
        written.append(number)
        yield LaidRow((1, 2), (False, True), ())

    cache = SizesCache(tmp_path / "deep" / "sizes")
    threads = [threading.Thread(target=cache.write, args=(rows(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert cache.is_there
    assert cache.tokens(0).tolist() == [1, 2]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [".sizes.lock", "sizes"]
    (cache.folder / "tokens.i4").write_bytes(b"")
    assert not SizesCache(cache.folder).is_there


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "F", "I;16"])
def test_pictures_lose_nothing(mode: str) -> None:
    whole = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    image = Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)) if mode == "I;16" else whole.convert(mode)
    with Image.open(io.BytesIO(file_bytes(image))) as read:
        assert read.size == image.size
        assert np.array_equal(np.asarray(read.convert(mode) if read.mode != mode else read), np.asarray(image))


def test_a_picture_is_set_upright() -> None:
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(data, "PNG", exif=exif)
    with Image.open(io.BytesIO(data.getvalue())) as image, Image.open(io.BytesIO(file_bytes(image))) as read:
        assert read.size == (3, 4)


def test_sound_of_a_dataset_is_a_wav_file(make_clip: MakeClip) -> None:
    values = np.random.default_rng(700).integers(-9999, 9999, (700, 1)).astype("<i2")
    assert file_bytes({"array": values[:, 0], "sampling_rate": 16_000, "path": None}) == make_clip(values)
    with pytest.raises(DataError, match="sound of int64, expected int16 or floats"):
        file_bytes({"array": np.zeros(3, np.int64), "sampling_rate": 16_000})


def test_spans_of_targets() -> None:
    assert spans_of([]) == ()
    assert spans_of([True, True, False, True]) == ((0, 2), (3, 4))
    assert spans_of([False, True, False]) == ((1, 2),)
