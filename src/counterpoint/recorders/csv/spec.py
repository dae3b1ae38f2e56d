"""The section of CSV tables."""

from typing import Literal

from counterpoint.recorders.kind import RecorderKind, RecorderSection


class CsvSection(RecorderSection):
    """A table in the file `metrics.csv` of the run folder, for spreadsheets and data frames."""

    kind: Literal["csv"] = "csv"
    """A table of numbers, a row for each record."""


CSV = RecorderKind(section=CsvSection, open_with="counterpoint.recorders.csv.table:Table")
