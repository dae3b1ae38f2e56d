"""Names of functions that several kinds of models have in common."""

from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu2", "swiglu", "geglu_tanh"]
"""What stands between the matrices of an MLP."""

GATED: frozenset[Activation] = frozenset({"swiglu", "geglu_tanh"})
"""Those of an MLP with a third matrix, the gate."""

NormKind = Literal["none", "layer", "rms"]
"""A norm of rows: none, with mean and deviation, or by the root of the mean square."""
