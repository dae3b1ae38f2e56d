"""Files of hardware: what is written is read again, and whatever else is read ends in one sentence."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint import costs
from counterpoint.costs.file import MOST_BYTES, parse, read_hardware, text_of, write_hardware
from counterpoint.costs.hardware import Hardware
from counterpoint.costs.host import Host
from counterpoint.errors import InputError
from tests.unit.costs.assumed_files import FOLDER, PUBLISHED, assumed

TEXT = (FOLDER / "h100.json").read_text()
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=8),
    st.lists(st.floats(allow_nan=False), max_size=3), st.just({}), st.just([]), st.just(0), st.just(-1.0),
)  # fmt: skip


def test_shipped_files_are_small_say_where_they_are_from_and_are_written_as_read() -> None:
    assert set(costs.names()) == {"a100", "b200", "h100", "h200"}
    for name in costs.names():
        content = (FOLDER / f"{name}.json").read_bytes()
        hardware = parse(content, name)
        assert len(content) <= MOST_BYTES
        assert text_of(hardware).encode() == content
        assert hardware.name.lower() == name
        assert len(hardware.origin) > 40


def test_assumed_files_are_what_their_writer_writes() -> None:
    for published in PUBLISHED:
        written = (FOLDER / f"{published.name.lower()}.json").read_text()
        assert json.loads(written)["source"] == "measured" or written == text_of(assumed(published))


def test_hardware_is_found_by_name_in_any_case_and_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    write_hardware(file, costs.load("H200"))
    assert costs.load(file) == costs.load(str(file)) == costs.load("h200")
    assert [each.name for each in tmp_path.iterdir()] == ["mine.json"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("H300", "hardware: got 'H300', expected one of a100, b200, h100, h200 or a file"),
        ("none.json", "none.json: cannot be read (No such file or directory), expected"),
        ("", "hardware: got '', expected one of"),
        (".", "hardware: got '.', expected one of"),
    ],
)
def test_what_is_no_hardware_is_told(name: str, sentence: str) -> None:
    with pytest.raises(InputError) as told:
        costs.load(name)
    assert str(told.value).startswith(sentence)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_hardware(tmp_path / "none" / "mine.json", costs.load("H200"))


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("schema", 2, "schema: got 2, expected one of 1"),
        ("schema", True, "schema: got true, expected one of 1"),
        ("source", "guessed", 'source: got "guessed", expected one of measured, assumed'),
        ("memory_bytes", 0, "memory_bytes: got 0, expected a whole number above 0"),
        ("memory_bytes", 1.5, "memory_bytes: got 1.5, expected a whole number above 0"),
        ("launch_seconds", -1e-6, "launch_seconds: got -1e-06, expected a number above 0"),
        ("host", {"plain_kernel": 0}, "host.plain_kernel: got 0, expected a number above 0 and at most 1"),
        ("host", {"kernel": 1e-6}, "host: got an unknown key 'kernel', expected compiled_kernel, compiled_backward"),
        ("host", 1e-6, "host: got 1e-06, expected an object with some of compiled_kernel, compiled_backward"),
        ("alone", 1.5, "alone: got 1.5, expected a number above 0 and at most 1"),
        ("name", 5, "name: got 5, expected text of at most 60 printable characters"),
        ("name", "H200\nschema: 2", r'name: got "H200\nschema: 2", expected text of at most 60 printable characters'),
        ("memory_bytes", True, "memory_bytes: got true, expected a whole number above 0"),
        ("memory.bytes.1", 1, "memory.bytes: got [1024, 1, "),
        ("memory.bytes.1", 1024, "memory.bytes: got [1024, 1024, "),
        ("collectives.all_reduce.1", {}, "collectives.all_reduce: got"),
        ("products.float32.seconds", [1], "products.float32.seconds: got [1], expected 42 numbers, one for each size"),
        ("products.int8", {}, "products: got an unknown key 'int8', expected float64, float32, bfloat16, float16"),
        ("memory.seconds.0", "fast", 'memory.seconds.0: got "fast", expected a number'),
        ("memory.seconds.8", None, "memory.seconds: got"),
        ("attention.bfloat16.least_rows", 0, "attention.bfloat16.least_rows: got 0, expected a whole number above 0"),
        ("peaks.bfloat16", 0, "peaks.bfloat16: got 0, expected a number above 0"),
        ("network.latency_seconds", 2, "network.latency_seconds: got 2, expected a number above 0 and at most 1"),
        ("surprise", 1, "the file: got an unknown key 'surprise', expected schema, name"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_place(path: str, value: object, sentence: str) -> None:
    content = json.loads(TEXT)
    _put(content, path.split("."), value)
    with pytest.raises(InputError) as told:
        parse(json.dumps(content).encode(), "mine")
    assert str(told.value).startswith(f"mine: {sentence}")
    assert str(told.value).endswith("; write the file with counterpoint calibrate")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_told_with_its_place(value: float) -> None:
    whole = json.loads(text_of(replace(costs.load("H100"), host=Host(plain_kernel=7e-5, gather=1.234e-3))))
    paths = [path for path in _paths(whole) if isinstance(_at(whole, path), int | float)]
    assert ("host", "gather") in paths
    for path in paths:
        content = json.loads(json.dumps(whole))
        _put(content, path, value)
        with pytest.raises(InputError) as told:
            parse(json.dumps(content).encode(), "mine")
        assert str(told.value).startswith(f"mine: {'.'.join(path)}: got {json.dumps(value)}, expected ")


def test_a_larger_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(TEXT.ljust(MOST_BYTES))
    assert read_hardware(file) == costs.load("H100")
    file.write_text(TEXT.ljust(MOST_BYTES + 1))
    with pytest.raises(InputError, match=f"mine.json: got more than {MOST_BYTES} bytes, expected a small file"):
        read_hardware(file)


def test_figures_of_a_host_are_written_as_read() -> None:
    host = Host(plain_kernel=7e-5, gather=1.234e-3)
    measured = replace(costs.load("H100"), host=host)
    text = text_of(measured)
    assert json.loads(text)["host"] == {"plain_kernel": 7e-05, "gather": 0.001234}
    assert parse(text.encode(), "mine") == measured
    assert "host" not in json.loads(TEXT)


def test_a_missing_key_is_told() -> None:
    content = json.loads(TEXT)
    del content["peaks"]
    with pytest.raises(InputError, match="mine: the file: got no peaks, expected schema"):
        parse(json.dumps(content).encode(), "mine")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"{}", b'{"schema": 1}', b'{"schema": NaN}',
        b'{"schema": 1, "schema": 1}', b"[" * 5000, TEXT.replace("3e-06", "Infinity").encode(),
        TEXT.replace("3e-06", "1e999").encode(),
    ],
)  # fmt: skip
def test_what_is_no_file_of_hardware_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(content)
    with pytest.raises(InputError) as told:
        read_hardware(file)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 900


@given(st.data())
def test_any_change_of_a_file_is_hardware_or_one_sentence(data: st.DataObject) -> None:
    content = json.loads(TEXT)
    for _change in range(data.draw(st.integers(1, 3))):
        _put(content, data.draw(st.sampled_from(sorted(_paths(content)))), data.draw(ODD))
    hardware = _parsed(json.dumps(content).encode())
    for dtype in () if hardware is None else hardware.products:
        assert hardware is not None
        assert 0 < hardware.product(3, 500, 70000, dtype) < float("inf")


@given(st.integers(0, len(TEXT) - 1), st.binary(max_size=4), st.integers(0, 64))
def test_any_damage_of_a_file_is_hardware_or_one_sentence(start: int, put: bytes, length: int) -> None:
    _parsed(TEXT.encode()[:start] + put + TEXT.encode()[start + length :])


def _parsed(content: bytes) -> Hardware | None:
    """The hardware, None if one sentence says what is wrong."""
    with suppress(InputError):
        return parse(content, "mine")
    return None


def _paths(content: Any, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """All places of a file's values."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = {above} if above else set()
    for key, value in pairs:
        found |= _paths(value, (*above, str(key)))
    return found


def _at(content: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        content = content[int(key) if isinstance(content, list) else key]
    return content


def _put(content: Any, path: Any, value: object) -> None:
    """Replace a value, if its place is still there."""
    *above, last = path
    for key in above:
        if isinstance(content, list):
            content = content[int(key)] if int(key) < len(content) else None
        else:
            content = content.get(key) if isinstance(content, dict) else None
    if isinstance(content, dict):
        content[last] = value
    elif isinstance(content, list) and int(last) < len(content):
        content[int(last)] = value
