"""Writing text with a graph of encoders: a prompt says the same alone and among others."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from counterpoint.config.schema import DepthConfig, EdgeConfig
from counterpoint.inference.plain import Features, PlainModel, Prompt, write
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from counterpoint.models.towers import Wire
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN
from counterpoint.verify.alone import Journey
from tests.intakes import image_intake, image_item
from tests.unit.items import patches_of
from tests.unit.models.model_samples import ADAPTER, DEEP, TAPPED, build, changed

WIRES = (Wire("vision", "adapter"), Wire("adapter", "language", ((0, 3),)))
INTAKES = {"vision": image_intake(TAPPED)}
END = -1


def plain() -> PlainModel:
    models = {"vision": TAPPED, "adapter": ADAPTER, "language": DEEP}
    chains = {name: build(model) for name, model in models.items()}
    return PlainModel(chains, WIRES, INTAKES, "language", 1, torch.device("cpu"))


def prompt(*grids: tuple[int, int], text: int) -> Prompt:
    """Images of these grids in a row, then tokens."""
    generator, items, row = np.random.default_rng(text), [], 0
    for height, width in grids:
        patches = generator.random((height * width, TAPPED.section.patch_dim), dtype=np.float32)
        payload = PatchPayload(patches, (height, width))
        items.append((image_item(payload, TAPPED, row), payload))
        row += height * width // 4
    ids = np.array([NO_TOKEN] * row + [1 + i % 7 for i in range(text)], dtype=np.int64)
    return Prompt(ids, tuple(items))


def test_prompts_share_no_features() -> None:
    whole = plain()
    prompts = [prompt((2, 4), (2, 2), text=3), prompt(text=2), prompt((4, 4), text=1)]
    together = write(whole, prompts, (END,), [4, 4, 2])
    assert together == [write(whole, [one], (END,), [most])[0] for one, most in zip(prompts, [4, 4, 2])]
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


@pytest.mark.parametrize("axes", [1, 3])
def test_scores_are_those_of_training(axes: int) -> None:
    """The score of a token is the loss that training has with it as the last row's label, each document by itself."""
    language = DEEP if axes == 1 else changed(DEEP, rope_sections=(0, 1, 1))
    models = {"vision": TAPPED, "adapter": ADAPTER, "language": language}
    chains = {name: build(model) for name, model in models.items()}
    # Behind the first layer, so that later rows see them.
    wires = (WIRES[0], Wire("adapter", "language", ((0, 0),)))
    whole = PlainModel(chains, wires, INTAKES, "language", axes, torch.device("cpu"))
    edges = tuple(
        EdgeConfig(source=s, target=t, depths=tuple(DepthConfig(after=a, into=i) for a, i in depths))
        for s, t, depths in wires
    )
    journey = Journey(chains, INTAKES, edges, torch.float32, torch.device("cpu"))
    prompts = [prompt((2, 4), (4, 2), text=3), prompt(text=2), prompt((4, 8), text=4)]
    scores = whole.next_logits([one.ids for one in prompts], whole.encode(prompts)).log_softmax(dim=1)
    for one, found in zip(prompts, scores, strict=True):
        inserts: list[tuple[torch.Tensor, torch.Tensor]] = []
        deep: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        places: list[tuple[int, int, int]] = []
        for item, payload in one.items:
            front, behind, _rows = journey.into("language", item.module, payload)
            index = torch.arange(len(front[0])) + item.position
            inserts += [(rows, index) for rows in front]
            for layer, features in behind.items():
                deep.setdefault(layer, []).extend((rows, index) for rows in features)
            height, width = (side // 2 for side in patches_of(payload).grid)
            free = 1 + max((max(place) for place in places), default=-1)
            places += [(free, free + y, free + x) for y in range(height) for x in range(width)]
        free = 1 + max((max(place) for place in places), default=-1)
        places += [(free + n, free + n, free + n) for n in range(len(one.ids) - len(places))]
        positions = torch.arange(len(one.ids)) if axes == 1 else torch.tensor(places)
        for label in range(3):
            labels = torch.full((len(one.ids),), NO_LABEL)
            labels[-1] = label
            segments = Segments.build((len(one.ids),), len(one.ids))
            batch = TextBatch(torch.from_numpy(one.ids), positions, labels, segments, 1.0, tuple(inserts), deep)
            loss = chains["language"](None, batch)[MAIN]
            torch.testing.assert_close(-loss, found[label], rtol=1e-12, atol=1e-12)


class _Script:
    """Writes fixed tokens, whatever it is asked."""

    def __init__(self, tokens: list[list[int]]) -> None:
        self.tokens = tokens

    def encode(self, prompts: Sequence[Prompt]) -> list[Features]:
        return [Features((), (), {}) for _prompt in prompts]

    def next_logits(self, ids: Sequence[np.ndarray], _features: Sequence[Features]) -> torch.Tensor:
        chosen = [self.tokens[int(one[0])][len(one) - 2] for one in ids]
        return torch.nn.functional.one_hot(torch.tensor(chosen), 9).double()


def test_an_end_token_ends_an_answer_and_is_no_part_of_it() -> None:
    script = _Script([[5, 6, 8, 7], [8, 1, 1, 1], [4, 4, 4, 4]])
    prompts = [Prompt(np.array([number, 3]), ()) for number in range(3)]
    assert write(script, prompts, (8,), [4, 4, 3]) == [[5, 6], [], [4, 4, 4]]
