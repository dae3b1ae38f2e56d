"""Residual layers: the parts between the first and the last of a transformer."""

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from counterpoint.layers.attention.kernels import Kernel, attend_lying
from counterpoint.layers.attention.sublayer import Attention
from counterpoint.layers.normed import NormedSection
from counterpoint.models.batch import Batch, Turns
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer, Reporting, WithResults, run, under


class AttendingLayer(Layer, ABC):
    """A layer around attention; a subclass defines what comes before and after its core.

    It is compiled as one where a kernel takes packed documents directly, else in two regions around a core that no
    compiler can look into.
    """

    regions = ("whole", "before", "after")
    attention: Attention

    @abstractmethod
    def begin(self, rows: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the rows that enter."""

    @abstractmethod
    def finish(self, rows: Tensor, mixed: Tensor) -> Tensor:
        """What leaves, from the rows that entered and what they saw of each other."""

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        turns, lie = self.attention.rotary.turns(batch, rows.dtype), self.attention.lie(rows, batch)
        if lie is not None:
            return self.whole(rows, turns, *lie)
        return self.after(rows, self.attention.look(*self.before(rows, turns), batch))

    def whole(self, rows: Tensor, turns: Turns | None, kernel: Kernel, length: int, borders: Tensor | None) -> Tensor:
        """The layer where a kernel takes documents as they lie."""
        scores = self.attention.scores
        return self.finish(rows, attend_lying(*self.begin(rows, turns), kernel, length, borders, scores))

    def before(self, rows: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor, Tensor]:
        """The beginning as a region of its own: the one inside of `whole` is never compiled by itself."""
        return self.begin(rows, turns)

    def after(self, rows: Tensor, mixed: Tensor) -> Tensor:
        """The end as a region of its own."""
        return self.finish(rows, mixed)


def norms_of(section: NormedSection, hidden: int) -> tuple[nn.Module, nn.Module]:
    """The norm before a sublayer and the one after it, which is the identity where there is none."""
    behind = RmsNorm(hidden, section.norm_eps) if section.post_norm else nn.Identity()
    return RmsNorm(hidden, section.norm_eps), behind


@final
class AttentionLayer(AttendingLayer):
    """rows + post_norm(attention(norm(rows)))."""

    def __init__(self, norm: nn.Module, attention: Attention, post_norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.attention = attention
        self.post_norm = post_norm

    def begin(self, rows: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.attention.project(self.norm(rows), turns)

    def finish(self, rows: Tensor, mixed: Tensor) -> Tensor:
        out: Tensor = rows + self.post_norm(self.attention.leave(mixed))
        return out


@final
class MlpLayer(Layer):
    """rows + post_norm(mlp(norm(rows)))."""

    regions = ("forward",)

    def __init__(self, norm: nn.Module, mlp: nn.Module, post_norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.mlp = mlp
        self.post_norm = post_norm

    def forward(self, rows: Tensor, _batch: Batch) -> Tensor:
        out: Tensor = rows + self.post_norm(self.mlp(self.norm(rows)))
        return out


@final
class MambaLayer(Layer):
    """rows + post_norm(mamba(norm(rows)))."""

    def __init__(self, norm: nn.Module, mamba: nn.Module, post_norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.mamba = mamba
        self.post_norm = post_norm

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        out: Tensor = rows + self.post_norm(self.mamba(self.norm(rows), batch))
        return out


@final
class MoeLayer(Layer, Reporting):
    """rows + post_norm(moe(norm(rows)))."""

    def __init__(self, norm: nn.Module, moe: Reporting, post_norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.moe = moe
        self.post_norm = post_norm
        self.results = tuple(f"moe.{name}" for name in moe.results)

    def forward(self, rows: Tensor, batch: Batch) -> WithResults:
        mixed, results = run(self.moe, self.norm(rows), batch)
        return WithResults(rows + self.post_norm(mixed), under("moe", results))


@final
class EncoderLayer(AttendingLayer):
    """Attention, then MLP, each with its norm, its scale and its residual."""

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        attention_scale: nn.Module,
        mlp_norm: nn.Module,
        mlp: nn.Module,
        mlp_scale: nn.Module,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.attention_scale = attention_scale
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.mlp_scale = mlp_scale

    def begin(self, rows: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.attention.project(self.attention_norm(rows), turns)

    def finish(self, rows: Tensor, mixed: Tensor) -> Tensor:
        attended: Tensor = rows + self.attention_scale(self.attention.leave(mixed))
        out: Tensor = attended + self.mlp_scale(self.mlp(self.mlp_norm(attended)))
        return out
