"""`register_module` registers an image encoder of your own for use in configs."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from counterpoint.errors import ConfigError
from counterpoint.families.custom.registered import CUSTOM_MODULES, CustomModule, LinearRole, Measured, Options

if TYPE_CHECKING:
    from torch import Tensor, nn

NOTHING: Mapping[str, Any] = MappingProxyType({})


def register_module(
    name: str,
    build: Callable[[Options], "nn.Module"],
    *,
    tensor_rules: Mapping[str, LinearRole] = NOTHING,
    initial: Mapping[str, tuple[float, float]] = NOTHING,
    weights: "Callable[[Options], Mapping[str, Tensor]] | None" = None,
) -> None:
    """Register an image encoder for configs with `model: {kind: custom, name: NAME, ...}`.

    Every process that plans must call this. `build(options)` returns a module that maps images of one size, (images, 3,
    height, width) with values in [-1, 1], to (images, tokens, hidden), one token per patch in row-major order.
    `tensor_rules` map name patterns of linear layers to what tensor parallelism shards: their `outputs` or their
    `inputs`. `initial` maps name patterns of parameters to (mean, std). `weights(options)` returns initial values by
    parameter name. Raises ConfigError for an invalid or already registered name, and for an unknown role.
    """
    for pattern, role in tensor_rules.items():
        if role not in ("outputs", "inputs"):
            raise ConfigError(
                f"register_module: {name}: tensor_rules: got {role!r} for {pattern!r}, expected 'outputs' or "
                "'inputs'; correct the role"
            )
    module = CustomModule(
        build=build, measure=_Measure(name, build), weights=weights, tensor_rules=dict(tensor_rules),
        initial=dict(initial),
    )  # fmt: skip
    CUSTOM_MODULES.register(name, module)


class _Measure:
    """Builds the module on the meta device to measure it, once for equal options."""

    def __init__(self, name: str, build: Callable[[Options], "nn.Module"]) -> None:
        self._name, self._build = name, build
        self._known: dict[str, Measured] = {}

    def __call__(self, options: Options) -> Measured:
        """Raises ConfigError if building fails, or if the result is no module or cannot be sharded."""
        key = json.dumps(options, sort_keys=True, default=repr)
        if key not in self._known:
            self._known[key] = self._measured(options)
        return self._known[key]

    def _measured(self, options: Options) -> Measured:
        from torch import nn

        from counterpoint.families.custom.model import empty_tower

        where = f"the registered module {self._name} with options {dict(options)}"
        try:
            tower, _constants = empty_tower(partial(self._build, options))
        except Exception as error:
            raise ConfigError(
                f"{where}: building it raised {type(error).__name__}: {error}; correct model.options or build"
            ) from error
        parameters = {name: tuple(parameter.shape) for name, parameter in tower.named_parameters()}
        tied = [name for name, _p in tower.named_parameters(remove_duplicate=False) if name not in parameters]
        if tied:
            raise ConfigError(
                f"{where}: got the parameter {tied[0]} under another name, too, expected each in one place, since a "
                "shard has one owner; give it a parameter of its own, or read the other one in forward"
            )
        scalars = [name for name, shape in parameters.items() if not shape]
        if scalars:
            raise ConfigError(
                f"{where}: got the parameter {scalars[0]} without a dimension, expected at least one, since FSDP2 cuts "
                "the first; give it the shape (1,)"
            )
        linears = {
            name: (module.out_features, module.in_features)
            for name, module in tower.named_modules()
            if isinstance(module, nn.Linear)
        }
        return Measured(parameters, linears)
