"""Where documents come from: kinds of sources, each in a folder of its own."""

from counterpoint.registry import Registry
from counterpoint.section.section import Section
from counterpoint.sources.prepared.spec import PreparedEntry
from counterpoint.sources.registered.spec import RegisteredEntry
from counterpoint.sources.synthetic.spec import SyntheticEntry

SOURCES: Registry[type[Section]] = Registry(
    "source", {"prepared": PreparedEntry, "registered": RegisteredEntry, "synthetic": SyntheticEntry}
)
"""The section of each source, an `Entry`, by the key that selects it; an entry without such a key is prepared."""
