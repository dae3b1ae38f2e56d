"""What lives as long as a training is set aside for its time only, and collections are rare for that of a command: a
process may do several things."""

import gc

import pytest

from counterpoint.garbage import rare, spared


def test_objects_are_set_aside_until_the_training_ends() -> None:
    frozen = gc.get_freeze_count()
    for _training in range(2):
        with spared() as garbage:
            assert gc.get_freeze_count() == frozen == 0
            garbage.set_aside()
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0


def test_a_training_that_fails_leaves_nothing_aside() -> None:
    with pytest.raises(ValueError, match="the step"):
        _fail()
    assert gc.get_freeze_count() == 0


def test_collections_are_rare_until_a_command_ends() -> None:
    before = gc.get_threshold()
    with rare():
        assert gc.get_threshold()[0] > 10 * before[0]
        assert gc.get_threshold()[1:] == before[1:]
    assert gc.get_threshold() == before
    with pytest.raises(ValueError, match="the command"):
        rare()(_raise)("the command")
    assert gc.get_threshold() == before


def test_a_command_inside_another_and_one_of_another_thread_end_as_they_began() -> None:
    before = gc.get_threshold()
    one, other = rare(), rare()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert gc.get_threshold() != before, "the other still lasts"
    other.__exit__(None, None, None)
    assert gc.get_threshold() == before


@pytest.mark.parametrize("youngest", [0, 10**6])
def test_who_wants_fewer_collections_keeps_them(youngest: int) -> None:
    before = gc.get_threshold()
    gc.set_threshold(youngest, *before[1:])
    try:
        with rare():
            assert gc.get_threshold()[0] == youngest
        assert gc.get_threshold()[0] == youngest
    finally:
        gc.set_threshold(*before)


def _raise(words: str) -> None:
    raise ValueError(words)


def _fail() -> None:
    with spared() as garbage:
        garbage.set_aside()
        raise ValueError("the step")
