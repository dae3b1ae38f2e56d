"""Features of several depths, and features of one encoder that another reads."""

from dataclasses import replace

import pytest
import torch
from model_samples import ADAPTER, DEEP, GRAPHS, TAPPED, batch_of, build, feature_batch, model, text_batch
from torch import Tensor

from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.encoder import port_of
from counterpoint.plan.sizes import ModelSizes

LENGTHS = (4, 8)


def teach(outputs: dict[str, Tensor]) -> Tensor:
    """A number that every element of every output moves differently."""
    flat = torch.cat([out.flatten() for out in outputs.values()])
    return (flat * torch.arange(1.0, len(flat) + 1, dtype=flat.dtype).cos()).sum()


def gradients(chain: Chain) -> dict[str, Tensor]:
    return {name: p.grad for name, p in chain.named_parameters() if p.grad is not None}


def test_a_tap_is_the_projector_of_what_leaves_its_layer() -> None:
    chain, batch = model(TAPPED), batch_of(TAPPED, LENGTHS, 4)
    outputs = chain(None, batch)
    assert list(outputs) == ["d0", "d2", MAIN]
    rows = None
    for name in ("embed", "layers.0"):
        rows = chain.get_submodule(name)(rows, batch)
    assert torch.equal(chain.get_submodule("taps.0")(rows, batch), outputs["d0"])
    plain = build(model_parts(replace(TAPPED, taps=())))(None, batch)
    assert torch.equal(plain[MAIN], outputs[MAIN])
    assert outputs["d0"].shape == outputs[MAIN].shape


def test_depths_join_the_rows_behind_their_layer() -> None:
    chain, batch = model(DEEP), text_batch(DEEP, (6,))
    places = torch.tensor([1, 4])
    shallow, deep = (torch.randn(2, DEEP.hidden, dtype=torch.float64, requires_grad=True) for _ in range(2))
    filled = batch.with_inserts(((shallow, places),), {3: ((deep, places), (deep, places))})
    loss = chain(None, filled)[MAIN]
    rows = None
    for name, part in chain.parts():
        if not name.startswith("inserts."):
            rows = part(rows, filled)
        if name == "layers.3":
            rows = rows.index_add(0, places, 2 * deep)
    assert loss.item() == pytest.approx(rows.item(), abs=1e-14)
    loss.backward()
    assert all(features.grad.any() for features in (shallow, deep))


def test_without_features_an_insert_changes_nothing() -> None:
    batch = text_batch(DEEP, (6,), 2)
    plain = build(model_parts(replace(DEEP, inserts=())))
    assert torch.equal(model(DEEP)(None, batch)[MAIN], plain(None, batch)[MAIN])


def test_features_that_meet_in_an_adapter_add_up() -> None:
    batch = feature_batch(ADAPTER, LENGTHS)
    (features, places), (more, first) = batch.inserts
    embed = model(ADAPTER).get_submodule("embed")
    summed = features.index_add(0, first, more)
    assert torch.equal(embed(None, batch), embed(None, batch.with_inserts(((summed, places),))))


@pytest.mark.parametrize("cut", range(1, 6))
@pytest.mark.parametrize("sizes", GRAPHS.values(), ids=GRAPHS)
def test_two_stages_equal_the_whole_at_every_port(sizes: ModelSizes, cut: int) -> None:
    parts, batch = model_parts(sizes), batch_of(sizes, LENGTHS, 4)
    whole, first, second = build(parts), build(parts[:cut]), build(parts[cut:])
    expected = whole(None, batch)
    teach(expected).backward()
    sent = first(None, batch)
    arrived = {port: out.detach().requires_grad_() for port, out in sent.items()}
    found = second(arrived[MAIN], batch)
    given = {port: rows for port, rows in arrived.items() if port != MAIN} | found
    teach(given).backward()
    torch.autograd.backward(list(sent.values()), [rows.grad for rows in arrived.values()])
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[port], out) for port, out in expected.items())
    theirs = gradients(whole)
    for name, gradient in (gradients(first) | gradients(second)).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-12, atol=1e-12)
    assert len(gradients(first) | gradients(second)) == len(theirs) == len(dict(whole.named_parameters()))


def test_ports_are_named_after_layers() -> None:
    assert [part.emits for part in model_parts(TAPPED) if part.emits != MAIN] == [port_of(layer) for layer in (0, 2)]
