"""A graph of encoders in one process adds what its wires say, once each."""

import torch

from counterpoint.models.batch import FeatureBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from counterpoint.models.towers import Items, Towers, Wire
from tests.unit.models.model_samples import ADAPTER, TAPPED, VITS, build, changed, patch_batch

WIRES = (
    Wire("vision", "adapter"),
    Wire("vision", "language"),
    Wire("detail", "adapter"),
    Wire("adapter", "language", ((0, 3),)),
    Wire("idle", "language"),
)


def test_every_wire_adds_the_features_of_its_source() -> None:
    models = {"vision": TAPPED, "detail": changed(VITS["linear"], merge=1), "adapter": ADAPTER, "idle": TAPPED}
    chains = {name: build(model) for name, model in models.items()}
    images, details = patch_batch(TAPPED, [(2, 4), (2, 2)]), patch_batch(VITS["linear"], [(1, 3)])
    items = {
        "vision": Items(images, torch.arange(3), (2, 1), torch.tensor([4, 5, 9])),
        "detail": Items(details, torch.arange(3), (3,), torch.tensor([0, 1, 2])),
    }
    inserts, deep = Towers(chains, WIRES, items).into("language")
    vision, detail = chains["vision"](None, images)[MAIN], chains["detail"](None, details)[MAIN]
    joined = FeatureBatch(6, Segments.build((2, 1, 3), 6))
    adapted = chains["adapter"](None, joined.with_inserts(((torch.cat([vision, detail]), torch.arange(6)),)))
    places = torch.tensor([4, 5, 9, 0, 1, 2])
    (direct, direct_places), (through, through_places) = inserts
    assert torch.equal(direct, vision)
    assert torch.equal(direct_places, places[:3])
    assert torch.equal(through, adapted[MAIN])
    assert torch.equal(through_places, places)
    ((tapped, tapped_places),) = deep[3]
    assert torch.equal(tapped, adapted["d0"])
    assert torch.equal(tapped_places, places)


def test_without_items_nothing_is_added() -> None:
    assert Towers({}, WIRES, {}).into("language") == ((), {})
