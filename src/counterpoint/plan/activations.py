"""What a module's layers keep for backward, beside the question which layers are recomputed as a whole."""

from dataclasses import dataclass

PARTS = ("norms", "activations", "convs")
"""Cheap parts of layers, which can be recomputed alone: norms, activation functions, Mamba-2's convolutions."""


@dataclass(frozen=True, slots=True)
class ActivationPolicy:
    """`discards` are the cheap parts whose outputs are computed again; `keeps` are the costly functions whose outputs
    recomputed layers keep; `offloads` says whether what is kept waits in the host's memory."""

    discards: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()
    offloads: bool = False


KEEPS_ALL = ActivationPolicy()
