"""Activations by their names."""

from typing import get_args

from counterpoint.kinds.names import GATED, Activation
from counterpoint.layers.mlp.spec import DecoderActivation
from counterpoint.models.mlp import ACTIVATIONS, GATES


def test_every_name_has_a_function_and_gates_those_that_have_one() -> None:
    assert set(GATES) == GATED
    assert set(get_args(Activation)) == GATES.keys() | ACTIVATIONS.keys()
    assert set(get_args(DecoderActivation)) <= set(get_args(Activation))
