"""Residual layers of transformers and Mamba-2."""

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from counterpoint.layers.attention.kernels import Kernel, attend_packed, pad_heads
from counterpoint.layers.attention.sublayer import Attention
from counterpoint.layers.mamba.sublayer import Mamba
from counterpoint.layers.normed import NormedSection
from counterpoint.models.batch import Batch, CosSin, TextBatch
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer, Reporting, WithResults, run, under


class AttendingLayer(Layer, ABC):
    """A layer with attention; subclasses define the code before and after the attention kernel.

    If a kernel reads packed documents without padding, the layer is compiled as one region. Otherwise, and where
    recomputation keeps the outputs of the kernel, it is compiled as two regions around a core that is not compiled.
    """

    regions = ("whole", "before", "after")
    attention: Attention

    @abstractmethod
    def begin(self, rows: Tensor, cos_sin: CosSin | None) -> tuple[Tensor, Tensor, Tensor]:
        """Input rows (rows, hidden) -> queries, keys and values (rows, heads, dim)."""

    @abstractmethod
    def finish(self, rows: Tensor, mixed: Tensor) -> Tensor:
        """Input rows (rows, hidden) and attention outputs (rows, heads, dim) -> output rows (rows, hidden)."""

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        cos_sin, choice = self.attention.rotary.cos_sin(batch, rows.dtype), self.attention.kernel_choice(rows, batch)
        if choice is None:
            heads = self.before(rows, cos_sin, self.attention.head_dim)
            return self.after(rows, self.attention.look(*heads, batch))
        if self.attention.is_kept:
            heads = self.before(rows, cos_sin, choice.width)
            return self.after(rows, self.attention.mix_with(*heads, choice))
        return self.whole(rows, cos_sin, *choice)

    def whole(
        self, rows: Tensor, cos_sin: CosSin | None, kernel: Kernel, length: int, borders: Tensor | None, width: int
    ) -> Tensor:
        """The whole layer as one region, with a kernel that reads packed documents without padding."""
        queries, keys, values = self._padded(rows, cos_sin, width)
        mixed = attend_packed(queries, keys, values, kernel, length, borders, self.attention.scores)
        return self.finish(rows, mixed)

    def before(self, rows: Tensor, cos_sin: CosSin | None, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """`begin` as a separate region, with heads padded to `width` columns."""
        return self._padded(rows, cos_sin, width)

    def _padded(self, rows: Tensor, cos_sin: CosSin | None, width: int) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values = self.begin(rows, cos_sin)
        return pad_heads(queries, width), pad_heads(keys, width), pad_heads(values, width)

    def after(self, rows: Tensor, mixed: Tensor) -> Tensor:
        """`finish` as a separate region."""
        return self.finish(rows, mixed)


def norms_of(section: NormedSection, hidden: int) -> tuple[nn.Module, nn.Module]:
    """The norm before a sublayer and the norm after it; the latter is the identity without `post_norm`."""
    after = RmsNorm(hidden, section.norm_eps) if section.post_norm else nn.Identity()
    return RmsNorm(hidden, section.norm_eps), after


@final
class AttentionLayer(AttendingLayer):
    """rows + post_norm(attention(norm(rows)))."""

    def __init__(self, norm: nn.Module, attention: Attention, post_norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.attention = attention
        self.post_norm = post_norm

    def begin(self, rows: Tensor, cos_sin: CosSin | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.attention.project(self.norm(rows), cos_sin)

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
    """rows + post_norm(mamba(norm(rows))), in two regions around the recurrence, which has its own."""

    regions = ("before", "after")

    def __init__(self, norm: nn.Module, mamba: Mamba, post_norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.mamba = mamba
        self.post_norm = post_norm

    def forward(self, rows: Tensor, batch: TextBatch) -> Tensor:
        x, b, c, dt, z = self.before(rows)
        return self.after(rows, self.mamba.recur(x, b, c, dt, batch), z)

    def before(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Input rows (rows, hidden) -> what `Mamba.project` returns."""
        return self.mamba.project(self.norm(rows))

    def after(self, rows: Tensor, mixed: Tensor, z: Tensor) -> Tensor:
        """Input rows (rows, hidden), mixed rows and gate (rows, inner) -> output rows (rows, hidden)."""
        out: Tensor = rows + self.post_norm(self.mamba.leave(mixed, z))
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
    """Attention, then an MLP; each has a norm before it, a scale after it, and a residual connection."""

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

    def begin(self, rows: Tensor, cos_sin: CosSin | None) -> tuple[Tensor, Tensor, Tensor]:
        return self.attention.project(self.attention_norm(rows), cos_sin)

    def finish(self, rows: Tensor, mixed: Tensor) -> Tensor:
        attended: Tensor = rows + self.attention_scale(self.attention.leave(mixed))
        out: Tensor = attended + self.mlp_scale(self.mlp(self.mlp_norm(attended)))
        return out
