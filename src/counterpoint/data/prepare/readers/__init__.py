"""The readers of files of rows, by the name that a shard has for them."""

from collections.abc import Mapping

from counterpoint.data.prepare.readers.json_array import JsonArrayReader
from counterpoint.data.prepare.readers.json_lines import JsonLinesReader
from counterpoint.data.prepare.shards import RowReader

READERS: Mapping[str, RowReader] = {"json_lines": JsonLinesReader(), "json_array": JsonArrayReader()}
