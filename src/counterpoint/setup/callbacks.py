"""Callbacks before any rank exists: whether they are some, and whether ranks can be handed them."""

import pickle
import sys
from collections.abc import Sequence

from counterpoint.errors import InputError
from counterpoint.program import is_importable
from counterpoint.train.callbacks import Callback


def check_callbacks(callbacks: object) -> None:
    """Raise InputError for what is no callback, or no list of them."""
    if not isinstance(callbacks, Sequence):
        raise InputError(f"callbacks: got a {type(callbacks).__name__}, expected a list of callbacks; put it in one")
    for number, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            is_class = isinstance(callback, type)
            got = f"the class {callback.__name__}" if is_class else f"a {type(callback).__name__}"
            remedy = "call the class" if is_class else "derive its class from counterpoint.Callback"
            raise InputError(f"callbacks.{number}: got {got}, expected a counterpoint.Callback; {remedy}")


def check_travels(callbacks: Sequence[Callback]) -> None:
    """Raise InputError for a callback that cannot be sent to ranks."""
    for number, callback in enumerate(callbacks):
        if type(callback).__module__ == "__main__" and not is_importable(sys.modules["__main__"]):
            raise InputError(
                f"callbacks.{number}: got a {type(callback).__name__} of a program that is in no file (python -c, a "
                "notebook, standard input), expected a class that ranks, which are other processes, can import; move "
                "it to a module of its own"
            )
        try:
            pickle.dumps(callback)
        except Exception as error:  # An object may raise anything while it is pickled.
            raise InputError(
                f"callbacks.{number}: got a {type(callback).__name__} that cannot be pickled ({error}), expected one "
                "that ranks, which are other processes, can be handed; define its class at the top level of a module "
                "and open files and connections in its methods"
            ) from error
