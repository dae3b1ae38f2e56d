"""Who is where and what is in a batch: every rank has work or is idle, every document and item is computed once."""

from collections.abc import Iterator

from counterpoint.check.fault import Fault
from counterpoint.plan.action import Action, Compute, Direction
from counterpoint.plan.batch import DOCUMENT, BatchPlan, ModuleRows, Share, Span
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan


def check_layouts(plan: Plan) -> Fault | None:
    """Ranks without work and idle ranks with work; parts of a module that no stage holds."""
    placement = plan.placement
    used = {rank for layout in placement.layouts for rank in layout.ranks}
    for rank in range(placement.world_size):
        if (rank in used) is (rank in placement.idle):
            what = "a module and stands under world.idle" if rank in used else "neither a module nor a place in world.idle"
            return Fault(f"rank {rank} has {what}, expected one of the two; change modules.*.layout.ranks or world.idle")
    for rank in sorted(used):
        if rank >= placement.world_size:
            return Fault(f"rank {rank} has a module, expected ranks below world.size {placement.world_size}; raise it")
    for module, layout in plan.layouts.items():
        bounds = plan.splits[module]
        starts = [0, *(stop for _start, stop in bounds)]
        if len(bounds) != layout.pp or any(a != start or stop <= start for a, (start, stop) in zip(starts, bounds)):
            return Fault(
                f"modules.{module}.layout.split: got {list(bounds)} as parts of the {layout.pp} stages on ranks "
                f"{format_ranks(layout.ranks)}, expected one run per stage, each starting where the last ended; correct it"
            )
    return None


def check_batch(plan: Plan, batch: BatchPlan) -> Fault | None:
    """The first document or item that is not computed exactly once, or not in its place, or not in its rows."""
    for module, rows in plan.rows.items():
        shares = batch.shares[module]
        sizes = [len(lanes) for lanes in shares]
        if sizes != [rows.layout.dp] * plan.microbatches:
            return Fault(
                f"step {batch.step}: {module} has shares for {sizes} lanes per microbatch, expected {rows.layout.dp} for "
                f"each of {plan.microbatches}; plan the batch with the layouts of this plan"
            )
        for microbatch, lanes in enumerate(shares):
            for lane, share in enumerate(lanes):
                complaint = _share_complaint(batch, share, rows)
                if complaint is not None:
                    return _at(plan, module, microbatch, lane, complaint)
    return _check_documents(batch) or _check_once(plan, batch)


def _share_complaint(batch: BatchPlan, share: Share, rows: ModuleRows) -> str | None:
    if share.rows_out % rows.layout.lane_size or share.rows_in != share.rows_out * rows.merge:
        return (
            f"{share.rows_in} rows enter and {share.rows_out} leave, expected a multiple of the {rows.layout.lane_size} "
            f"ranks of a lane to leave and {rows.merge} times as many to enter; pad the share"
        )
    row_in, row_out = 0, 0
    for span in share.spans:
        name = _name(span)
        if span.row_in < row_in or span.row_out < row_out:
            return f"{name} starts at rows {span.row_in} and {span.row_out} inside the span before, expected no overlap; move it"
        row_in, row_out = span.row_in + span.rows_in, span.row_out + span.rows_out
        if row_in > share.rows_in or row_out > share.rows_out:
            return f"{name} ends at rows {row_in} and {row_out}, expected at most {share.rows_in} and {share.rows_out}; pad more"
        expected = _expected_rows(batch, span)
        if (span.rows_in, span.rows_out) != expected:
            got = f"{span.rows_in} rows in and {span.rows_out} out"
            return f"{name} has {got}, expected {expected[0]} and {expected[1]} as its document says; plan the batch anew"
        if span.item != DOCUMENT and span.rows_in != span.rows_out * rows.merge:
            return (
                f"{name} will emit {span.rows_in} / {rows.merge} rows for {span.rows_out} placeholders, expected them "
                "equal; prepare the data for this patch and merge size"
            )
    return None


def _expected_rows(batch: BatchPlan, span: Span) -> tuple[int, int]:
    document = batch.documents[span.document]
    if span.item == DOCUMENT:
        return document.tokens, document.tokens
    item = document.items[span.item]
    return item.rows_in, item.rows


def _check_documents(batch: BatchPlan) -> Fault | None:
    """Placeholders inside their document and apart from each other, loss tokens among the tokens."""
    for number, document in enumerate(batch.documents):
        where = f"step {batch.step}: document {number} (source {document.source}, index {document.index})"
        if not 0 <= document.loss_tokens <= document.tokens:
            return Fault(f"{where} has {document.loss_tokens} loss tokens of {document.tokens}; prepare the data anew")
        end = 0
        for item in sorted(document.items, key=lambda item: item.position):
            if item.position < end or item.position + item.rows > document.tokens:
                return Fault(
                    f"{where} has placeholders of {item.module} at rows {item.position} to {item.position + item.rows}, "
                    f"expected them between row {end} and {document.tokens}; prepare the data anew"
                )
            end = item.position + item.rows
    return None


def _check_once(plan: Plan, batch: BatchPlan) -> Fault | None:
    expected = {(plan.sink, d, DOCUMENT) for d in range(len(batch.documents))}
    for d, document in enumerate(batch.documents):
        expected |= {(item.module, d, i) for i, item in enumerate(document.items)}
    seen: dict[tuple[str, int, int], int] = {}
    for module, microbatch, lane, span in _spans(batch):
        key = (module, span.document, span.item)
        if key in seen or key not in expected:
            twice = f"a second time, first in microbatch {seen[key]}" if key in seen else "that is not its own"
            remedy = "expected each in one share of its module; plan the batch anew"
            return _at(plan, module, microbatch, lane, f"{_name(span)} is computed {twice}, {remedy}")
        seen[key] = microbatch
        home = seen.get((plan.sink, span.document, DOCUMENT), microbatch)
        if home != microbatch:
            complaint = f"{_name(span)} belongs to a document of microbatch {home}, expected both in one; plan the batch anew"
            return _at(plan, module, microbatch, lane, complaint)
    missing = min(expected - seen.keys(), default=None)
    if missing is not None:
        module, document, item = missing
        what = f"document {document}" if item == DOCUMENT else f"item {item} of document {document}"
        return Fault(f"step {batch.step}: {what} has no share in {module}, expected one; plan the batch anew")
    return None


def _spans(batch: BatchPlan) -> Iterator[tuple[str, int, int, Span]]:
    """All (module, microbatch, lane, span); documents are placed in the first module of `shares`, the sink."""
    for module, shares in batch.shares.items():
        for microbatch, lanes in enumerate(shares):
            for lane, share in enumerate(lanes):
                for span in share.spans:
                    yield module, microbatch, lane, span


def _name(span: Span) -> str:
    return f"document {span.document}" if span.item == DOCUMENT else f"item {span.item} of document {span.document}"


def _at(plan: Plan, module: str, microbatch: int, lane: int, complaint: str) -> Fault:
    layout = plan.layouts[module]
    where = f"{module}, microbatch {microbatch}, lane {lane}"
    if lane >= layout.dp:
        return Fault(f"{where}: {complaint}")
    rank = layout.lane_ranks(0, lane)[0]
    action: Action = Compute(Node(module, 0), Direction.FORWARD, microbatch)
    return Fault(f"{where} (rank {rank} at {action}): {complaint}", ((rank, action),))
