"""Features of several depths, and features of one encoder that another reads."""

import pytest
import torch
from torch import Tensor

from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.chain import MAIN, Chain, port_of
from counterpoint.models.seams import run
from tests.gradients import gradient_of
from tests.unit.models.model_samples import (
    ADAPTER,
    DEEP,
    GRAPHS,
    TAPPED,
    batch_of,
    build,
    changed,
    feature_batch,
    text_batch,
)

LENGTHS = (4, 8)


def teach(outputs: dict[str, Tensor]) -> Tensor:
    """A number that every element of every output moves differently."""
    flat = torch.cat([out.flatten() for out in outputs.values()])
    return (flat * torch.arange(1.0, len(flat) + 1, dtype=flat.dtype).cos()).sum()


def gradients(chain: Chain) -> dict[str, Tensor]:
    return {name: p.grad for name, p in chain.named_parameters() if p.grad is not None}


def test_a_tap_is_the_projector_of_what_leaves_its_layer() -> None:
    chain, batch = build(TAPPED), batch_of(TAPPED, LENGTHS, 4)
    outputs = chain(None, batch)
    assert list(outputs) == ["d0", "d2", MAIN]
    rows = None
    for name in ("embed", "layers.0"):
        rows = chain.get_submodule(name)(rows, batch)
    assert torch.equal(chain.get_submodule("taps.0")(rows, batch), outputs["d0"])
    plain = build(changed(TAPPED, taps=()))(None, batch)
    assert torch.equal(plain[MAIN], outputs[MAIN])
    assert outputs["d0"].shape == outputs[MAIN].shape


def test_depths_join_the_rows_behind_their_layer() -> None:
    chain, batch = build(DEEP), text_batch(DEEP, (6,))
    places = torch.tensor([1, 4])
    shallow, deep = (torch.randn(2, DEEP.section.hidden, dtype=torch.float64, requires_grad=True) for _ in range(2))
    filled = batch.with_inserts(((shallow, places),), {3: ((deep, places), (deep, places))})
    loss = chain(None, filled)[MAIN]
    rows: Tensor | None = None
    for name, part in chain.parts():
        if not name.startswith("inserts."):
            rows = run(part, rows, filled).rows
        if name == "layers.3":
            assert rows is not None
            rows = rows.index_add(0, places, 2 * deep)
    assert rows is not None
    assert loss.item() == pytest.approx(rows.item(), abs=1e-14)
    loss.backward()
    assert all(gradient_of(features).any() for features in (shallow, deep))


def test_without_features_an_insert_changes_nothing() -> None:
    batch = text_batch(DEEP, (6,), 2)
    plain = build(changed(DEEP, inserts=()))
    assert torch.equal(build(DEEP)(None, batch)[MAIN], plain(None, batch)[MAIN])


def test_features_that_meet_in_an_adapter_add_up() -> None:
    batch = feature_batch(ADAPTER, LENGTHS)
    (features, places), (more, first) = batch.inserts
    embed = build(ADAPTER).get_submodule("embed")
    summed = features.index_add(0, first, more)
    assert torch.equal(embed(None, batch), embed(None, batch.with_inserts(((summed, places),))))


@pytest.mark.parametrize("cut", range(1, 6))
@pytest.mark.parametrize("model", GRAPHS.values(), ids=GRAPHS)
def test_two_stages_equal_the_whole_at_every_port(model: Model, cut: int) -> None:
    parts, batch = parts_of(model), batch_of(model, LENGTHS, 4)
    whole, first, second = build(model), build(model, parts[:cut]), build(model, parts[cut:])
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
    assert [part.emits for part in parts_of(TAPPED) if part.emits != MAIN] == [port_of(layer) for layer in (0, 2)]
