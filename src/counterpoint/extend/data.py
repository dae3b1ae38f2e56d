"""Content for plug-ins: documents of sources, items of modalities, and the batches that models read; loads torch."""

from counterpoint.modalities.alone import Alone
from counterpoint.modalities.content import Rows
from counterpoint.modalities.lane import Laid, Lane, Own
from counterpoint.models.batch import FeatureBatch, GivenBatch, ItemBatch, TextBatch
from counterpoint.models.segments import Bucket, Sampled, Segments
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Document, Item, text_rows
from counterpoint.sources.census import CUT_TARGETS, DECLARED, EMPTY, NO_TARGET, TOO_LARGE, TOO_SHORT, UNFIT, Census
from counterpoint.sources.payload import TextPayload, lay_items, lay_text
from counterpoint.sources.source import Source, WithTargets

__all__ = [
    "CUT_TARGETS",
    "DECLARED",
    "EMPTY",
    "NO_LABEL",
    "NO_TARGET",
    "NO_TOKEN",
    "TOO_LARGE",
    "TOO_SHORT",
    "UNFIT",
    "Alone",
    "Bucket",
    "Census",
    "Document",
    "FeatureBatch",
    "GivenBatch",
    "Item",
    "ItemBatch",
    "Laid",
    "Lane",
    "Own",
    "Rows",
    "Sampled",
    "Segments",
    "Source",
    "TextBatch",
    "TextPayload",
    "WithTargets",
    "lay_items",
    "lay_text",
    "text_rows",
]
