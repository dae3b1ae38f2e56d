"""Multi-token prediction: one depth for each further token (DeepSeek-AI, 2024, arXiv:2412.19437, 2.2)."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.batch import TextBatch
from counterpoint.models.embedding import Lookup, WordTable, scaled
from counterpoint.models.linear import Linear
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Reporting, StageEnter, WithResults, run, under


@final
class MtpDepth(Reporting):
    """Depth k, counted from 1: rows (rows, hidden * k) -> (rows, hidden * (k + 1)).

    h, the last `hidden` input columns, is the normed output of depth k - 1. Depth k appends
    norm(layers(join(norm(h), norm(embedding of the token k rows ahead)))); from it the head predicts the token after
    that one. If the row ahead has no token, such as a placeholder of an image, its embedding is zero. Rows of a batch
    without this depth pass through unchanged.
    """

    def __init__(
        self,
        depth: int,
        hidden: int,
        norm_eps: float,
        words: WordTable,
        scale: float,
        layers: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.depth = depth
        self.hidden = hidden
        # In a tuple, `words` is no submodule and keeps one name (see TiedHead).
        self.words = (words,)
        self.scale = scale
        self.lookup: nn.Module = Lookup()
        self.enter: nn.Module = StageEnter()
        self.rows_norm = RmsNorm(hidden, norm_eps)
        self.words_norm = RmsNorm(hidden, norm_eps)
        self.join = Linear(2 * hidden, hidden, bias=False)
        self.layers = nn.ModuleList(layers)
        self.norm = RmsNorm(hidden, norm_eps)
        reporting = ((number, layer) for number, layer in enumerate(layers) if isinstance(layer, Reporting))
        self.results = tuple(f"layers.{number}.{name}" for number, layer in reporting for name in layer.results)

    def forward(self, rows: Tensor, batch: TextBatch) -> WithResults:
        if len(batch.mtp) < self.depth:
            return WithResults(rows, {})
        found = self.lookup(self.words[0].matrix(), batch.mtp[self.depth - 1].ids)
        words = self.enter(scaled(found, self.scale))
        before = rows[:, -self.hidden :]
        ahead = self.join(torch.cat((self.rows_norm(before), self.words_norm(words)), dim=1))
        results: dict[str, Tensor] = {}
        for number, layer in enumerate(self.layers):
            ahead, reported = run(layer, ahead, batch)
            results |= under(f"layers.{number}", reported)
        return WithResults(torch.cat((rows, self.norm(ahead)), dim=1), results)
