"""Actions print and parse back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import InputError
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work, parse_action
from counterpoint.plan.graph import Link, Node

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
nodes = st.builds(Node, names, st.integers(0, 99))
directions = st.sampled_from(Direction)
microbatches = st.integers(0, 999)
steps_ahead = st.integers(0, 12)
links = st.one_of(st.builds(Link, nodes, nodes), st.builds(Link, nodes, nodes, st.integers(0, 99), st.integers(0, 99)))
actions = st.one_of(
    st.builds(Compute, nodes, st.sampled_from(Work), microbatches, steps_ahead),
    st.builds(Transfer, links, directions, microbatches, steps_ahead),
    st.builds(Reduce, nodes),
    st.just(Step()),
)


@given(actions)
def test_actions_print_and_parse_back(action: Action) -> None:
    assert parse_action(str(action)) == action


@pytest.mark.parametrize(
    "text", ["", "language1F3", "language.1X3", "language.1F", "language.1F3 ", "a.0>b.0", "a.0>b.0/1F0", "a.0F1+0"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected the form"):
        parse_action(text)
