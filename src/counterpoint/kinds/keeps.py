"""What common pieces of models keep for backward, in plain torch, with kernels on GPUs, and in compiled regions.

Autograd's formulas say what an operation saves. A compiler that sees a whole region computes cheap things again and
saves what matrix products read in backward, whatever a policy of recomputation says.
"""

from dataclasses import replace

from counterpoint.kinds.names import GATED, Activation, NormKind
from counterpoint.plan.kept import ATTENTION, KEEPS_NOTHING, Cut, Keeps, Kept


def norm_keeps(kind: NormKind, width: int, *, heads: int = 1, cut: Cut = "rows") -> Keeps:
    """What a norm of rows, or of each of so many heads of a row, keeps: the rows and the statistics of what it
    normalises; an RMS norm in plain torch has wide copies of both."""
    if kind == "none":
        return KEEPS_NOTHING
    rows = Kept(width, cut=cut)
    if kind == "layer":
        return Keeps.alike(rows, Kept(2 * heads, cut=cut))
    wide = (Kept(width, "wide", cut, of="norms"), Kept(width, "wide", cut, of="norms"), Kept(heads, "wide", cut))
    fused = (rows, Kept(heads, "wide", cut))
    return Keeps((*wide, Kept(width, cut=cut, instead="norms")), fused, fused)


def read_norm_keeps(kind: NormKind, width: int, *, is_compiled: bool = True) -> Keeps:
    """The same of a norm whose output products read, which keep it; `is_compiled` says whether a compiler sees both and
    decides for itself."""
    whole = Kept(width, cut="gathered", is_read=True)
    read = replace(whole, of="norms")
    if kind == "none":
        return Keeps.alike(whole)
    return norm_keeps(kind, width) + Keeps((read,), (read,), (whole,) if is_compiled else (read,))


def core_keeps(queries: int, keys: int, heads: int) -> Keeps:
    """What attention's kernel keeps: queries, keys and values, its output, and the log-sum-exp of each head."""
    made = Kept(queries, of=ATTENTION, is_read=True), Kept(heads, "wide", of=ATTENTION)
    return Keeps.alike(Kept(queries), Kept(2 * keys), *made)


def inner_keeps(activation: Activation, ffn: float, *, cut: Cut = "columns", is_weighed: bool = False) -> Keeps:
    """What an MLP keeps between its matrices; `is_weighed` if routing weights multiply the inner values."""
    value, discarded = Kept(ffn, cut=cut), Kept(ffn, cut=cut, of="activations")
    product, compiled_product = replace(discarded, is_read=True), replace(value, is_read=True)
    before = (discarded,) if is_weighed else ()
    eager: tuple[Kept, ...]
    compiled: tuple[Kept, ...]
    if activation in GATED:
        eager, compiled = (value, value, discarded, *before, product), (value, value, compiled_product)
    elif activation == "relu2":
        eager = (discarded, *before, product, Kept(ffn, cut=cut, instead="activations"))
        compiled = (value, compiled_product)
    else:
        factor = (discarded,) if activation == "quick_gelu" else ()
        eager, compiled = (value, *factor, *before, product), (value, compiled_product)
    return Keeps(eager, eager, compiled)
