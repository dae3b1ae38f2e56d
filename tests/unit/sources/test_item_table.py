"""What the items of all documents ask for at once is what each asks for by itself."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.kinds.modality import Intakes
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.prepared.item_table import ItemTable

TAKERS: Intakes = {
    "image": ImageIntake("vision", ImageConfig(max_patches=16), patch=4, merge=2, frames=2),
    "audio": ClipIntake("audio", mels=8, window=5, stride=2, stack=2, positions=6),
    "features": FeatureIntake("given", width=5),
}
SIZES = {
    "image": st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(0), st.integers(1, 4)),
    "audio": st.tuples(st.just(0), st.just(0), st.integers(1, 3000), st.just(1)),
    "features": st.tuples(st.integers(1, 9), st.just(5), st.just(0), st.just(1)),
}
ITEMS = st.lists(st.sampled_from(sorted(SIZES)).flatmap(lambda kind: st.tuples(st.just(kind), SIZES[kind])), max_size=5)


@given(st.lists(ITEMS, max_size=6))
def test_items_are_taken_one_by_one(documents: list[list[tuple[str, tuple[int, ...]]]]) -> None:
    items = [(owner, *item) for owner, own in enumerate(documents) for item in own]
    table = ItemTable(
        len(documents),
        np.array([owner for owner, _kind, _size in items], dtype=np.int64),
        np.zeros(len(items), dtype=np.int64),
        {kind: np.array([one == kind for _owner, one, _size in items], dtype=np.bool_) for kind in SIZES},
        np.array([(*size, size[-1]) for _owner, _kind, size in items], dtype=np.int64).reshape(-1, 5),
    )
    rows, _last, fit, _of_items = table.demands(TAKERS)
    for document, own in enumerate(documents):
        extents = [(TAKERS[kind], (size[2:3] if kind == "audio" else size[:2]), size[3]) for kind, size in own]
        assert rows[document] == sum(t.place(extent).rows * len(t.groups(files)) for t, extent, files in extents)
        assert fit[document] == all(taker.fits(extent) for taker, extent, _files in extents)
