"""Train multimodal models in which every module has its own parallel layout on its own ranks.

The names below are the public ones; each is imported when it is first used, so that `import counterpoint` is light.
docs/python.md shows them at work.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # What a type checker and an editor see; a test holds it to be what _HOMES has.
    from counterpoint.api import Run as Run
    from counterpoint.api import calibrate as calibrate
    from counterpoint.api import data_info as data_info
    from counterpoint.api import data_lint as data_lint
    from counterpoint.api import data_preview as data_preview
    from counterpoint.api import diff as diff
    from counterpoint.api import evaluate as evaluate
    from counterpoint.api import export as export
    from counterpoint.api import generate as generate
    from counterpoint.api import import_model as import_model
    from counterpoint.api import inspect as inspect
    from counterpoint.api import open_run as open_run
    from counterpoint.api import search as search
    from counterpoint.api import train as train
    from counterpoint.api import verify as verify
    from counterpoint.check.proof import check_plan as check_plan
    from counterpoint.config.load import Source as Source
    from counterpoint.config.load import load_config as load_config
    from counterpoint.config.schema import Config as Config
    from counterpoint.data.own.mapped import MapDataset as MapDataset
    from counterpoint.data.own.rows import TokenRow as TokenRow
    from counterpoint.data.own.streamed import StreamDataset as StreamDataset
    from counterpoint.data.own.streamed import measure_rows as measure_rows
    from counterpoint.errors import CounterpointError as CounterpointError
    from counterpoint.families.custom.register import register_module as register_module
    from counterpoint.plan.plan import Plan as Plan
    from counterpoint.plan.schedule import register_schedule as register_schedule
    from counterpoint.setup.run import build_plan as build_plan
    from counterpoint.simulate.clock import simulate as simulate
    from counterpoint.sources.registered.registered import register_source as register_source
    from counterpoint.sources.registered.samples import SampleItem as SampleItem
    from counterpoint.sources.registered.samples import Samples as Samples
    from counterpoint.sources.registered.samples import SampleSize as SampleSize
    from counterpoint.train.callbacks import Callback as Callback
    from counterpoint.train.callbacks import EvaluationContext as EvaluationContext
    from counterpoint.train.callbacks import SaveContext as SaveContext
    from counterpoint.train.callbacks import StepContext as StepContext

_HOMES = {
    "Callback": "counterpoint.train.callbacks",
    "Config": "counterpoint.config.schema",
    "CounterpointError": "counterpoint.errors",
    "EvaluationContext": "counterpoint.train.callbacks",
    "MapDataset": "counterpoint.data.own.mapped",
    "Plan": "counterpoint.plan.plan",
    "Run": "counterpoint.api",
    "SampleItem": "counterpoint.sources.registered.samples",
    "SampleSize": "counterpoint.sources.registered.samples",
    "Samples": "counterpoint.sources.registered.samples",
    "SaveContext": "counterpoint.train.callbacks",
    "Source": "counterpoint.config.load",
    "StepContext": "counterpoint.train.callbacks",
    "StreamDataset": "counterpoint.data.own.streamed",
    "TokenRow": "counterpoint.data.own.rows",
    "build_plan": "counterpoint.setup.run",
    "check_plan": "counterpoint.check.proof",
    "data_info": "counterpoint.api",
    "data_lint": "counterpoint.api",
    "data_preview": "counterpoint.api",
    "diff": "counterpoint.api",
    "evaluate": "counterpoint.api",
    "export": "counterpoint.api",
    "generate": "counterpoint.api",
    "import_model": "counterpoint.api",
    "inspect": "counterpoint.api",
    "load_config": "counterpoint.config.load",
    "measure_rows": "counterpoint.data.own.streamed",
    "open_run": "counterpoint.api",
    "register_module": "counterpoint.families.custom.register",
    "register_schedule": "counterpoint.plan.schedule",
    "register_source": "counterpoint.sources.registered.registered",
}

_PACKAGES = ("calibrate", "search", "simulate", "train", "verify")
"""Packages that are functions too (counterpoint.callable)."""

__all__ = sorted([*_HOMES, *_PACKAGES])

if not TYPE_CHECKING:
    # A type checker takes a module that has it to have every name.
    def __getattr__(name: str) -> object:
        if name in _PACKAGES:
            return import_module(f"counterpoint.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
