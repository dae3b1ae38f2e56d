"""Names of functions that several kinds of models have in common."""

from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu2", "swiglu"]
"""What stands between the two matrices of an MLP; `swiglu` has a third, the gate."""

NormKind = Literal["none", "layer", "rms"]
"""A norm of rows: none, with mean and deviation, or by the root of the mean square."""
