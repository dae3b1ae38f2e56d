"""The readers of files of rows, by the name that a shard has for them."""

from collections.abc import Mapping

from counterpoint.data.prepare.readers.arrow import ArrowReader
from counterpoint.data.prepare.readers.image_folder import FolderReader
from counterpoint.data.prepare.readers.json_array import JsonArrayReader
from counterpoint.data.prepare.readers.json_lines import JsonLinesReader
from counterpoint.data.prepare.readers.parquet import ParquetReader
from counterpoint.data.prepare.readers.tar import TarReader
from counterpoint.data.prepare.shards import RowReader

READERS: Mapping[str, RowReader] = {
    "json_lines": JsonLinesReader(),
    "json_array": JsonArrayReader(),
    "parquet": ParquetReader(),
    "arrow": ArrowReader(),
    "tar": TarReader(),
    "folder": FolderReader(),
}
