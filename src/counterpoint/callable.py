"""Packages that are functions too: `counterpoint.train(config)` beside `counterpoint.train.loop`.

A package's attribute of the same name as a subpackage is replaced whenever the subpackage is first imported, so a
function of that name would come and go with the order of imports; a callable package does not.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that calls its public function; `home` is the function's place, `module:name`."""

    home: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        return self._function(*arguments, **named)

    @property
    def __signature__(self) -> Signature:
        """The function's signature, which `help` and editors show."""
        return signature(self._function)

    @property
    def _function(self) -> Callable[..., Any]:
        module, name = self.home.split(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function


def make_callable(package: str, home: str) -> None:
    """Let a package that is being imported be called as the function at `home`."""
    module = sys.modules[package]
    module.__class__ = CallablePackage
    vars(module)["home"] = home
