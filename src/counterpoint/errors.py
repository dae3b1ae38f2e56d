"""The exceptions that a user can meet, and the exit code each one leaves with.

CounterpointError
|-- InputError             2   something handed in: the remedy is in the message
|   |-- ConfigError            a key, a type, a value of the configuration
|   |-- PlacementError         a layout or the placement of modules on ranks
|   |-- DataError              a dataset, an index, a payload
|   |   |-- MissingFileError       a file that a record names is not there
|   |   `-- StalledError           storage that does not answer
|   |-- MissingPackageError    a package of an extra that is not installed
|   |-- CheckpointError        a checkpoint or a run folder
|   |   `-- DamagedCheckpointError   a checkpoint that is not what was written
|   `-- ProofError             the plan is not safe to run
|-- RunError               1   the run failed
|-- DifferenceError        3   a comparison differs
`-- HangError              4   the watchdog saw no progress
"""


class CounterpointError(Exception):
    """Base of all errors that counterpoint raises on purpose."""

    exit_code = 1


class InputError(CounterpointError):
    """Something the user handed in cannot be used; the message names what, where, got, expected and remedy."""

    exit_code = 2


class ConfigError(InputError):
    """A key, a type or a value of the configuration is wrong."""


class PlacementError(InputError):
    """A layout, or the placement of all layouts on the ranks of the world, is wrong."""


class DataError(InputError):
    """A dataset, its index or a payload is missing or malformed."""


class MissingFileError(DataError):
    """A file that a record names is not there."""


class MissingPackageError(InputError):
    """A package of an extra is not installed; no fault of the data, so nothing is left out or replaced for it."""


class StalledError(DataError):
    """Storage did not answer in time, several times; the data may be right."""


class CheckpointError(InputError):
    """A checkpoint or a run folder is missing, incomplete or of another model."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: an older one may be whole."""


class ProofError(InputError):
    """A plan failed a proof; the message holds the grid with the place marked."""


class RunError(CounterpointError):
    """The run failed for a reason outside the user's input."""


class DifferenceError(CounterpointError):
    """A comparison that must hold does not."""

    exit_code = 3


class HangError(CounterpointError):
    """No rank made progress within the watchdog's time."""

    exit_code = 4
