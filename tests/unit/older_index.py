"""Indexes as earlier versions wrote them, made from those of this version whose payload is copied."""

import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]

from counterpoint.sources.prepared.index import (
    ARROW_NAME,
    FILES_NAME,
    MANIFEST_NAME,
    SCHEMA_WITHOUT_STORES,
    WITHOUT_CHAT,
    Index,
    file_digest,
)
from counterpoint.sources.prepared.stores import STORES_NAME


def make_older(folder: Path, version: int) -> None:
    """Turn an index into one of version 4 or 5: no stores, names of files beside the payload."""
    table = Index(folder).table
    names = []
    rows = table.to_pylist()
    for row in rows:
        for item in row["items"]:
            assert item.pop("store") == 0, "earlier versions copied all payload"
            if found := item.pop("names"):
                names.append([item["offset"], *found])
            for column in ("group", "column", "picks"):
                del item[column]
    with pa.ipc.new_file(str(folder / ARROW_NAME), SCHEMA_WITHOUT_STORES) as file:
        file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA_WITHOUT_STORES))
    (folder / FILES_NAME).write_text("".join(json.dumps(line) + "\n" for line in names))
    (folder / STORES_NAME).unlink()
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    arrow = folder / ARROW_NAME
    manifest |= {"version": version, "arrow_bytes": arrow.stat().st_size, "arrow_sha256": file_digest(arrow)}
    del manifest["stores_sha256"]
    if version <= WITHOUT_CHAT:
        del manifest["chat"]
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
