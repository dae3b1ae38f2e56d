"""The order of documents whose payload lies in row groups: exact epochs, from the seed; each row group read once."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import settings as checked
from hypothesis import strategies as st

from counterpoint.data.feed.workers import Workers
from counterpoint.data.order.blocks import BlockOrder
from counterpoint.data.order.order import Order
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.blocks import Blocks, blocks_of
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.prepared.stores import PARQUET, Location
from tests.unit.items import MakeIndex, MakePicture

TAKER = {"vision": ImageIntake("vision", ImageConfig(size=8, max_patches=4), patch=4)}


def _blocks(sizes: list[int], data: list[int], pool_bytes: int) -> Blocks:
    return Blocks(np.cumsum([0, *sizes]), np.array(data, dtype=np.int64), pool_bytes)


drawn = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), min_size=1, max_size=12).flatmap(
    lambda pairs: st.builds(_blocks, *(st.just([pair[n] for pair in pairs]) for n in (0, 1)), st.integers(1, 200))
)


@checked(deadline=None, max_examples=30)
@given(blocks=drawn, seed=st.integers(0, 9), window=st.integers(1, 13))
def test_each_document_once_in_an_epoch_and_steps_stand_alone(blocks: Blocks, seed: int, window: int) -> None:
    size = int(blocks.starts[-1])
    order = Order(seed, (size, 5), (2, 1), window, blocks=(blocks, None))
    steps = -(-3 * size // window) + 1
    together = [draw for step in range(steps) for draw in order.draws(step)]
    for source, count in ((0, size), (1, 5)):
        own = [index for drawn, index in together if drawn == source]
        for epoch in range(len(own) // count):
            assert sorted(own[epoch * count : (epoch + 1) * count]) == list(range(count))
    again = Order(seed, (size, 5), (2, 1), window, blocks=(blocks, None))
    backwards = [again.draws(step) for step in reversed(range(steps))]
    assert [draw for step in reversed(backwards) for draw in step] == together, "no step needs those before it"
    plain = Order(seed, (size, 5), (2, 1), window)
    assert [[i for s, i in order.draws(step) if s] for step in range(steps)] == [
        [i for s, i in plain.draws(step) if s] for step in range(steps)
    ], "a source without blocks is drawn as ever"


@checked(deadline=None, max_examples=30)
@given(blocks=drawn, key=st.tuples(st.integers(0, 9), st.integers(0, 3)))
def test_a_block_is_drawn_within_one_pool(blocks: Blocks, key: tuple[int, ...]) -> None:
    """Between its first and its last document lie only blocks that begin within `pool_bytes`."""
    documents = BlockOrder(blocks).documents(np.arange(blocks.starts[-1]), key)
    owner = np.searchsorted(blocks.starts, documents, side="right") - 1
    for block in range(len(blocks.bytes)):
        (places,) = np.nonzero(owner == block)
        between = np.unique(owner[places[0] : places[-1] + 1])
        largest = blocks.bytes[between].max()
        assert blocks.bytes[between].sum() <= blocks.pool_bytes + largest


def test_epochs_and_seeds_differ_in_blocks_and_inside_of_them() -> None:
    blocks = _blocks([50] * 8, [10] * 8, 20)
    order = BlockOrder(blocks)
    found = {key: order.documents(np.arange(400), key).tolist() for key in ((0, 0), (0, 1), (1, 0))}
    assert len({tuple(each) for each in found.values()}) == 3
    assert len({tuple(number // 50 for number in each) for each in found.values()}) == 3
    one = _blocks([400], [10], 20)
    assert len({tuple(BlockOrder(one).documents(np.arange(400), (0, epoch)).tolist()) for epoch in range(9)}) == 9


@pytest.fixture
def index(tmp_path: Path, make_index: MakeIndex, make_picture: MakePicture) -> Path:
    """120 documents of row groups of 10; their tokens say which they are."""
    pictures = [make_picture(4, 4, compress_level=number % 10) for number in range(120)]
    table = pa.table({"image": [{"bytes": data, "path": None} for data in pictures]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    return make_index([
        Record([row, 2], [True, True], "train", "", [
            Encoded(0, data, location=Location(PARQUET, tmp_path / "a.parquet", row % 10, row // 10, "image"))
        ])
        for row, data in enumerate(pictures)
    ])  # fmt: skip


@pytest.mark.parametrize("workers", [1, 3])
def test_an_epoch_reads_each_row_group_once(index: Path, tmp_path: Path, workers: int) -> None:
    """Whatever the number of threads that read ahead."""
    source = PreparedSource(index, "train", 0, TAKER, 16, pool_bytes=3 * 800)
    blocks = blocks_of(source)
    assert blocks is not None
    order = Order(3, (len(source),), (1,), 8, blocks=(blocks,))
    data = sum(pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(group).total_byte_size for group in range(12))

    def read(step: int) -> list[int]:
        draws = order.draws(step)
        for _source, document in draws:
            source.item(document, 0)
        return [document for _source, document in draws]

    threads = Workers(workers, "test")
    found = [document for call in [threads.submit(read, step) for step in range(15)] for document in call.result(None)]
    threads.close()
    assert sorted(found) == list(range(120))
    assert source.index.stores.bytes_read <= 1.1 * data
    assert source.index.stores.files_read == 120
    scattered = PreparedSource(index, "train", 0, TAKER, 16, pool_bytes=3 * 800)
    for _source, document in [draw for step in range(15) for draw in Order(3, (120,), (1,), 8).draws(step)]:
        scattered.item(document, 0)
    assert scattered.index.stores.bytes_read > 2 * data, "an exact shuffle reads row groups again and again"


def test_an_order_that_was_drawn_from_travels_to_the_process_that_reads() -> None:
    order = Order(3, (9,), (1,), 4, blocks=(_blocks([2, 3, 4], [7, 8, 9], 10),))
    drawn = [order.draws(step) for step in range(4)]
    sent = pickle.loads(pickle.dumps(order))
    assert [sent.draws(step) for step in range(4)] == drawn
