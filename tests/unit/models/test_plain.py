"""Writing text with a graph of encoders: a prompt says the same alone and among others."""

import numpy as np
import torch
from model_samples import ADAPTER, DEEP, TAPPED, model

from counterpoint.data.images import grid_coordinates
from counterpoint.data.payload import ITEM_ROW, PatchPayload
from counterpoint.inference.plain import PlainModel, Prompt, write
from counterpoint.models.towers import Wire

WIRES = (Wire("vision", "adapter"), Wire("adapter", "language", ((0, 3),)))
END = -1


def plain() -> PlainModel:
    sizes = {"vision": TAPPED, "adapter": ADAPTER, "language": DEEP}
    chains = {name: model(size) for name, size in sizes.items()}
    return PlainModel(chains, WIRES, {"vision": TAPPED}, "language", 1, torch.device("cpu"))


def prompt(*grids: tuple[int, int], text: int) -> Prompt:
    """Images of these grids in a row, then tokens."""
    generator, items, row = np.random.default_rng(text), [], 0
    for height, width in grids:
        patches = generator.random((height * width, TAPPED.patch_dim))
        items.append(("vision", row, PatchPayload(patches, grid_coordinates(height, width, 2), (height, width))))
        row += height * width // 4
    ids = np.array([ITEM_ROW] * row + [1 + i % 7 for i in range(text)], dtype=np.int64)
    return Prompt(ids, tuple(items))


def test_prompts_share_no_features() -> None:
    whole = plain()
    prompts = [prompt((2, 4), (2, 2), text=3), prompt(text=2), prompt((4, 4), text=1)]
    together = write(whole, prompts, END, [4, 4, 2])
    assert together == [write(whole, [one], END, [most])[0] for one, most in zip(prompts, [4, 4, 2])]
    assert [len(ids) for ids in together] == [4, 4, 2]
    features = whole.encode(prompts)
    assert [len(one.items) for one in features] == [2, 0, 1]
    assert [sum(len(rows) for rows, _places in one.inserts) for one in features] == [3, 0, 4]
    logits = whole.next_logits([one.ids for one in prompts], features)
    for number, one in enumerate(prompts):
        alone = whole.next_logits([one.ids], [features[number]])
        torch.testing.assert_close(logits[number], alone[0], rtol=1e-12, atol=1e-12)
    blind = whole.next_logits([prompts[0].ids], [features[1]])
    assert (blind[0] - logits[0]).abs().max() > 1e-6
