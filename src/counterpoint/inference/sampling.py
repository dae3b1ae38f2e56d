"""How the next token is chosen: the likeliest, or one drawn by its probability."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from counterpoint.argument import argument
from counterpoint.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """At temperature 0 the likeliest token, ties to the lower id; else a draw from the likeliest tokens that together
    have a probability of `top_p`.

    Raises InputError for values outside of their ranges.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(
                f"{argument('temperature')}: got {self.temperature}, expected 0 (the likeliest token) or more"
            )
        if not 0 < self.top_p <= 1:
            raise InputError(f"{argument('top_p')}: got {self.top_p}, expected more than 0 and at most 1")
        if self.seed < 0:
            raise InputError(f"{argument('seed')}: got {self.seed}, expected 0 or more")

    def generator(self, key: Sequence[int]) -> np.random.Generator:
        """The generator of one answer, whose draws do not depend on other answers of the batch."""
        return np.random.default_rng([self.seed, *key])

    def choose(self, logits: Tensor, generators: Sequence[np.random.Generator]) -> list[int]:
        """The next token of each row of scores (answers, vocab)."""
        if self.temperature == 0:
            likeliest: list[int] = logits.argmax(dim=1).tolist()
            return likeliest
        chances = torch.softmax(logits.double() / self.temperature, dim=1).cpu().numpy()
        return [self._draw(row, generator) for row, generator in zip(chances, generators, strict=True)]

    def _draw(self, chances: np.ndarray, generator: np.random.Generator) -> int:
        order = np.argsort(-chances, kind="stable")
        reached = np.cumsum(chances[order])
        kept = 1 + int(np.searchsorted(reached, self.top_p))
        bounds = reached[: min(kept, len(reached))]
        return int(order[np.searchsorted(bounds, generator.random() * bounds[-1], side="right")])


GREEDY = Sampling()
