"""The step of a run that was timed, as it is predicted on the hardware that it ran on."""

from pathlib import Path

from counterpoint import costs
from counterpoint.config.load import read_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.costs.hardware import Hardware
from counterpoint.errors import CheckpointError, CounterpointError
from counterpoint.report.explain import explain
from counterpoint.report.run_record import Measured, read_timeline
from counterpoint.setup.plan import execution_of
from counterpoint.setup.run import open_run
from counterpoint.simulate.estimate import Estimate, estimate


def predicted(run_folder: Path, measured: Measured | None, hardware: str | None) -> Estimate | None:
    """The estimate of a run's measured step; None without one or without hardware.

    Raises CounterpointError for named hardware that lacks figures, or if the run's data is not there.
    """
    machine = _hardware(measured, hardware)
    if measured is None or machine is None:
        return None
    config = read_run_config(run_folder / CONFIG_FILE)
    try:
        plan, _models, corpus = open_run(config)
        batch = plan.batch(measured.step - 1, corpus.packs(measured.step - 1))
        return estimate(plan, machine, [batch], execution_of(config))
    except CounterpointError:
        # Nobody asked for hardware that the device's name suggests.
        if hardware is None:
            return None
        raise


def explanation(run_folder: Path, hardware: str | None) -> list[str]:
    """Sentences on what held a run back; raises CheckpointError without a timed step, and as `report` does."""
    config_file = run_folder / CONFIG_FILE
    if not config_file.is_file():
        raise CheckpointError(f"{run_folder}: no config.yaml, expected a run folder; give the run.dir of a training")
    measured = read_timeline(run_folder)
    if measured is None:
        raise CheckpointError(
            f"{run_folder}: no timeline.json, expected the actions of a timed step; train with log.timeline_steps=[3]"
        )
    plan = open_run(read_run_config(config_file)).plan
    return explain(plan, measured, predicted(run_folder, measured, hardware))


def _hardware(measured: Measured | None, named: str | None) -> Hardware | None:
    """The hardware that was named, or else the shipped one whose name stands in that of the run's device."""
    if named is not None:
        return costs.load(named)
    device = "" if measured is None else measured.device.upper()
    return next((costs.load(name) for name in costs.names() if name.upper() in device), None)
