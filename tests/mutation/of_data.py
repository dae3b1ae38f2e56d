# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of what is read, laid out and ordered."""

from tests.mutation import cases
from tests.mutation.mutant import Mutant

_D, _M, _S = (f"tests/unit/{room}/" for room in ("data", "modalities", "sources"))
_PIXELS = (f"{_M}test_pictures.py", f"{_M}test_odd_images.py", f"{_M}test_images.py", "tests/unit/judge/test_pixels.py")

DATA = [
    Mutant("modalities.images.pictures:read_scaled", "Image.Resampling[resampling.upper()]", "Image.Resampling.NEAREST", _PIXELS),
    Mutant("modalities.images.pictures:read_scaled", "resize(target[::-1], kernel)", "transform(target[::-1], Image.Transform.EXTENT, (0, 0, *(pixels if mode is None else pixels.transpose(mode)).size), Image.Resampling.BICUBIC)", _PIXELS),
    Mutant("modalities.images.pictures:read_scaled", "target if is_sideways else target[::-1]", "target[::-1]", _PIXELS),
    Mutant("modalities.images.pictures:image_size", "(width, height) if is_sideways", "(height, width) if is_sideways", _PIXELS),
    Mutant("modalities.images.pictures:flatten", "image.size, _WHITE", "image.size, (0, 0, 0, 255)", _PIXELS),
    Mutant("modalities.images.pictures:_grey", "_GREYS if image.mode == \"F\" else _GREYS[1:]", "_GREYS[1:]", _PIXELS),
    Mutant("modalities.images.patches:read_pixels", "pixels.astype(np.float32) / 255 - mean) / std", "pixels.astype(np.float32) / 255 - mean)", _PIXELS),
    Mutant("modalities.images.patches:read_pixels", "image.scaling[1:])", "image.scaling[:0:-1])", _PIXELS),
    Mutant("modalities.images.patches:read_pixels", "/ 255 - mean) / std", "/ 255 - 0.5) / 0.5", _PIXELS),
    Mutant(
        "modalities.images.patches:grid_coordinates", "cut.transpose(0, 2, 1, 3, 4)", "cut.transpose(0, 2, 3, 1, 4)",
        (f"{_M}test_images.py",),
    ),
    Mutant(
        "modalities.images.patches:cut_patches", "(1, 4, 2, 5, 7, 0, 3, 6)", "(1, 4, 2, 5, 0, 7, 3, 6)",
        (f"{_M}test_images.py", f"{_M}test_video.py"),
    ),
    Mutant("modalities.images.spec:patch_grid", "max_patches // merge**2", "max_patches // merge", (f"{_M}test_images.py",)),
    Mutant("sources.payload:lay_text", "np.where(is_target[1:]", "np.where(is_target[:-1]", (f"{_S}test_prepared.py",)),
    Mutant("sources.payload:lay_items", "before += items[-1].rows", "before += items[-1].rows_in", (f"{_S}test_prepared.py",)),
    Mutant("data.order.blocks:BlockOrder.documents", "(*key, _OF_POOLS, number)", "(_OF_POOLS, number)", (f"{_D}test_block_order.py",)),
    Mutant("data.order.blocks:BlockOrder.documents", "begin + permute", "permute", (f"{_D}test_block_order.py",)),
    Mutant("data.order.blocks:BlockOrder._permuted", "(np.cumsum(data) - data)", "np.cumsum(sizes)", (f"{_D}test_block_order.py",)),
    Mutant("data.prepare.pool:_share", "worker.at[0] < failed[0]) for worker in crew", "False) for worker in crew", (f"{_D}test_prepare_parallel.py",)),
    Mutant("data.prepare.work:PartFiles.read", "part if sizes == (values[\"arrow_file_bytes\"], part.counts.payload_bytes) else None", "part", (f"{_D}test_prepare_parallel.py",)),
    Mutant("sources.prepared.part:PartWriter.append", "self.counts.payload_bytes, numbers", "0, numbers", (f"{_D}test_prepare_parallel.py",)),
    Mutant("sources.prepared.row_groups:RowGroups._drop_oldest", "kept <= self._limit", "True", (f"{_S}test_stores.py",)),
    Mutant("sources.prepared.stores:Stores._whole", "len(data) != length", "len(data) < length", (f"{_S}test_stores.py",)),
    Mutant("data.order.order:Order.draws", "(self.seed, s, e)", "(self.seed, s, 0)", (f"{_D}test_order.py",)),
    Mutant("data.order.order:Order.draws", "step + 1) > step", "step + 1) >= step", (f"{_D}test_order.py",)),
    Mutant("data.order.order:Order._first_excluded", "min(exclusion", "max(exclusion", (f"{_D}test_order.py",)),
    Mutant("data.order.order:SequentialOrder.steps", "-(-sum(self.sizes) // self.window)", "sum(self.sizes) // self.window", (f"{_D}test_order.py",)),
    Mutant("data.order.packing:pack_documents", "room >= tokens", "room > tokens", (f"{_D}test_order.py",)),
    Mutant("data.order.packing:pack_documents", "sorted(sorted(pack) for pack in packs)", "sorted(packs)", (f"{_D}test_order.py",)),
    Mutant("data.order.packing:pack_documents", "free[place] -= tokens", "free[place] -= 1", (f"{_D}test_order.py",)),
    Mutant("data.order.blend:Blend.draw", "cycle * self._weights[source]", "cycle * len(self._weights)", (f"{_D}test_blend.py",)),
    Mutant("data.order.permute:permute", "size - 1).bit_length()", "size).bit_length()", (f"{_D}test_permute.py",)),
    Mutant("sources.prepared.item_table:ItemTable.demands", " * len(intake.groups(files))", "", (f"{_M}test_video.py",)),
    Mutant("sources.prepared.item_table:ItemTable.demands", "all_fit[self.owners[is_kind][~fits[which]]] = False", "pass", (f"{_S}test_two_kinds.py",)),
    Mutant("sources.prepared.source:PreparedSource.__init__", "leading_tokens(demands.of_items, depth + 1)", "leading_tokens(demands.of_items, 1)", (f"{_S}test_prepared.py",)),
    Mutant("sources.prepared.source:PreparedSource.__init__", "kept >= demands.last", "kept > demands.last", (f"{_S}test_prepared.py", "tests/unit/cli/test_lost_documents.py")),
    Mutant("sources.prepared.source:PreparedSource.census", "is_silent & had)", "is_silent | had)", (f"{_S}test_prepared.py", "tests/unit/cli/test_lost_documents.py")),
    Mutant("sources.prepared.source:PreparedSource.text", "targets[:kept]", "targets[-kept:]", (f"{_S}test_prepared.py",)),
    Mutant(
        "data.feed.reader:Reader._text", "text.ids[ahead:], loss.labels(text)[ahead:]", "text.ids[ahead:], loss.labels(text)[: span.rows_in - ahead]",
        (), (cases.FURTHER_PLAIN,),
    ),
    Mutant(
        "data.feed.reader:Reader._text", "float(len(batch.documents))", "float(len(share.spans))",
        (), (cases.EXPERTS,),
    ),
    Mutant(
        "data.feed.reader:Reader._shard", "(coordinate.cp * layout.tp + coordinate.tp)", "(coordinate.tp * layout.cp + coordinate.cp)",
        (), (cases.CP_TP, cases.CLIPS),
    ),
    Mutant("modalities.lane:Lane.inside", "start <= item.row", "start < item.row", (), (cases.CLIPS,)),
    Mutant("data.feed.reader:Reader._own", "slice(start - span.row_in, stop - span.row_in)", "slice(0, stop - start)", (), (cases.IMAGE_OVER_CP,)),
    Mutant("data.feed.reader:Reader._payload", "if reason is not None:", "if reason is not None and not bad:", (f"{_M}test_video.py", f"{_S}test_prepared.py")),
    Mutant("data.feed.reader:_scored", "labels != NO_LABEL", "labels > 0", (), (cases.PAIR, cases.PACKED)),
    Mutant(
        "modalities.images.rows:lay_images", "np.arange(intake.prefix)", "np.arange(intake.prefix)[::-1]",
        ("tests/unit/judge/test_towers.py",), (cases.RADIO,),
        harmless="learned rows have no positions, so attention takes them in any order, and none of them leaves",
    ),
    Mutant(
        "modalities.images.rows:lay_images", "slice(image.row, image.row + image.rows)", "slice(image.row, image.row + 1)" , ("tests/unit/judge/test_towers.py",), (cases.PAIR,),
    ),
    Mutant(
        "modalities.images.rows:image_windows", "rows * (columns.max() + 1)", "rows * (rows.max() + 1)",
        ("tests/unit/judge/test_towers.py",), (cases.WINDOWS,),
    ),
    Mutant("modalities.clips.windows:cut_windows", "np.arange(intake.window) - intake.window // 2", "np.arange(intake.window) - intake.window + 1", (f"{_M}test_clips.py",)),
    Mutant("modalities.clips.spec:ClipIntake._rows", "-(-self.whole_samples(samples) // (HOP * self.stride))", "self.whole_samples(samples) // (HOP * self.stride)", (f"{_M}test_clips.py", f"{_M}test_normalised_mel.py")),
    Mutant("modalities.clips.rows:ClipRows.read", "if self.intake.seconds is not None:", "if True:", (f"{_M}test_normalised_mel.py",)),
    Mutant("modalities.clips.rows:ClipRows.batch", "own.payload.positions[own.there]", "own.payload.positions[: own.there.stop - own.there.start]", (), (cases.CLIP_OVER_CP, cases.CLIPS)),
    Mutant("modalities.clips.mel:log_mel", 'mode="reflect"', 'mode="edge"', (f"{_M}test_clips.py",)),
    Mutant("modalities.clips.mel:log_mel", "bands.max() - _DECADES", "bands.min() + _DECADES", (f"{_M}test_clips.py",)),
    Mutant("sources.synthetic.source:SyntheticSource.document", "text_rows(items, depth + 1)", "depth + 1", (f"{_S}test_synthetic.py",)),
    Mutant("sources.source:load_item_or_neutral", "check_rows(payload, intake.kind, expected.rows_in, where)", "pass", (f"{_S}test_prepared.py", f"{_S}test_two_kinds.py")),
    Mutant("data.fingerprint:data_fingerprint", '"data.packing": data.packing,', "", ("tests/unit/cli/test_refused_resume.py",)),
    Mutant("data.text.tokenizer:Tokenizer.vocabulary", "1 + max(self.backend.get_vocab(with_added_tokens=True).values())", "len(self.backend.get_vocab(with_added_tokens=True))", (f"{_D}test_tokenizer_ids.py",)),
]  # fmt: skip
