"""Depths of multi-token prediction against transformers' layers of them, values and gradients.

transformers has no model that trains with these layers, they draft tokens; what a depth computes is the same. In their
projection the words come first, in ours, as in the paper, the rows.
"""

import pytest
import torch
from torch import Tensor

from counterpoint.families.decoder.spec import DecoderConfig, MtpConfig
from counterpoint.models.batch import MtpInputs, TextBatch
from counterpoint.models.chain import Chain
from counterpoint.models.segments import Segments
from counterpoint.plan.samples import NO_LABEL
from tests.gradients import gradient_of
from tests.unit.judge.judge import REASON
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.models import our_model, random_tensors

ROWS, DEPTHS = 9, 2
SECTION = DecoderConfig(
    kind="decoder", pattern="*-", hidden=16, heads=4, kv_heads=2, ffn=24, vocab=31, tied=False, norm_eps=1e-6,
    mtp=MtpConfig(depths=DEPTHS, pattern="*-", weight=0.3),
)  # fmt: skip
NAMES = {
    "rows_norm.weight": "hnorm.weight",
    "words_norm.weight": "enorm.weight",
    "norm.weight": "post_norm.weight",
    "layers.0.norm.weight": "mtp_block.input_layernorm.weight",
    "layers.1.norm.weight": "mtp_block.post_attention_layernorm.weight",
    **{f"layers.0.attention.{x}.weight": f"mtp_block.self_attn.{x}_proj.weight" for x in "qkvo"},
    **{f"layers.1.mlp.{x}.weight": f"mtp_block.mlp.{x}_proj.weight" for x in ("gate", "up", "down")},
}


def test_depths_are_those_of_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers.modeling_layers", reason=REASON)
    from transformers import LlamaConfig, modeling_layers
    from transformers.models.llama import modeling_llama

    if not hasattr(modeling_layers, "MtpLayer"):
        pytest.skip("this version of transformers has no layer of multi-token prediction")
    lift_casts(monkeypatch, modeling_llama)
    config = LlamaConfig(
        hidden_size=SECTION.hidden, num_attention_heads=4, num_key_value_heads=2, head_dim=4, intermediate_size=24,
        rms_norm_eps=1e-6,
    )  # fmt: skip
    config._attn_implementation = "eager"
    rotary = modeling_llama.LlamaRotaryEmbedding(config)
    theirs = [
        modeling_layers.MtpLayer(config, modeling_llama.LlamaDecoderLayer, modeling_llama.LlamaRMSNorm, depth).double()
        for depth in range(DEPTHS)
    ]
    ours = our_model(SECTION, random_tensors(SECTION, seed=1))
    words = ours.get_parameter("embed.weight").detach().clone().requires_grad_()
    for depth, layer in enumerate(theirs):
        _copy(ours, f"mtp.{depth}", dict(layer.named_parameters()))
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(31, (ROWS + DEPTHS,), generator=generator)
    start = torch.randn(ROWS, SECTION.hidden, dtype=torch.float64, generator=generator)
    batch = _batch(ids)

    rows = start.clone().requires_grad_()
    found = rows
    for depth in range(DEPTHS):
        found = ours.get_submodule(f"mtp.{depth}")(found, batch).rows
    assert found.shape == (ROWS, SECTION.hidden * (1 + DEPTHS))

    hidden = judged = start.clone().requires_grad_()
    expected = [judged]
    positions = torch.arange(ROWS)[None]
    mask = torch.full((ROWS, ROWS), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    for depth, layer in enumerate(theirs):
        ahead = words[ids[depth + 1 : depth + 1 + ROWS]][None]
        angles = rotary(ahead, positions)
        hidden = layer(ahead, hidden.view(1, ROWS, -1), angles, mask, positions, None)[0]
        expected.append(hidden)
    wanted = torch.cat(expected, dim=1)

    _assert_close(found, wanted, "rows")
    weights = torch.randn(wanted.shape, dtype=torch.float64, generator=generator)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    _assert_close(rows.grad, judged.grad, "gradient of the rows")
    _assert_close(ours.get_parameter("embed.weight").grad, words.grad, "gradient of the words")
    for depth, layer in enumerate(theirs):
        gradients = {name: gradient_of(parameter) for name, parameter in layer.named_parameters()}
        for name, parameter in ours.get_submodule(f"mtp.{depth}").named_parameters():
            _assert_close(parameter.grad, _named(gradients, name), f"mtp.{depth}.{name}")


def _named(tensors: dict[str, Tensor], name: str) -> Tensor:
    """What of the judge's tensors is ours of a name."""
    if name == "join.weight":
        return tensors["eh_proj.weight"].roll(SECTION.hidden, dims=1)
    return tensors[NAMES[name]]


def _copy(ours: Chain, part: str, theirs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in ours.get_submodule(part).named_parameters():
            target = theirs["eh_proj.weight" if name == "join.weight" else NAMES[name]]
            target.copy_(parameter.roll(SECTION.hidden, dims=1) if name == "join.weight" else parameter)


def _batch(ids: Tensor) -> TextBatch:
    labels = torch.full((ROWS,), NO_LABEL)
    further = tuple(MtpInputs(ids[depth : depth + ROWS], labels, 1.0) for depth in range(1, 1 + DEPTHS))
    return TextBatch(ids[:ROWS], torch.arange(ROWS), labels, Segments.build([ROWS], ROWS), 1.0, mtp=further)


def _assert_close(found: Tensor | None, expected: Tensor | None, name: str) -> None:
    assert found is not None, name
    assert expected is not None, name
    assert expected.abs().max() > 1e-6, name
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max(), name
