"""What lives as long as a training is set aside for its time only: a process may train several times."""

import gc

import pytest

from counterpoint.train.garbage import spared


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


def _fail() -> None:
    with spared() as garbage:
        garbage.set_aside()
        raise ValueError("the step")
