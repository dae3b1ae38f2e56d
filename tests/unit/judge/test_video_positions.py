"""Positions of a video whose frames stand after their times are those of transformers' Qwen3-VL."""

from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.data.feed.positions import lay_positions
from counterpoint.plan.samples import Document, Item
from tests.unit.judge.judge import REASON

pytest.importorskip("transformers", reason=REASON)


def test_positions_of_a_video_with_timestamps_are_those_of_qwen3_vl() -> None:
    from transformers import Qwen3VLConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

    rows, columns, groups = 2, 3, 3
    between = [4, 5, 6]
    """Tokens of text before each group of frames, the token that begins an image among them."""
    kinds, items, row = list[int](), list[Item](), 0
    for text in between:
        kinds += [0] * text + [2] * (rows * columns)
        items.append(Item("vision", row + text, rows * columns * 4, rows * columns, columns))
        row += text + rows * columns
    kinds += [0] * 7
    document = Document(0, 0, len(kinds), 1, tuple(items))
    with torch.device("meta"):
        model: Any = Qwen3VLModel(Qwen3VLConfig())
    grid = torch.tensor([[groups, rows * 2, columns * 2]])
    theirs, _deltas = model.get_rope_index(
        torch.zeros(1, len(kinds), dtype=torch.long), torch.tensor([kinds]), video_grid_thw=grid
    )
    np.testing.assert_array_equal(lay_positions(document, 3), theirs[:, 0].T.numpy())
