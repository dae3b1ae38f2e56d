"""Coverage: every rank has work or is idle, every document and item of a batch is computed once."""

import itertools
from collections.abc import Iterator

from counterpoint.check.fault import Fault
from counterpoint.plan.action import Action, Compute, Work
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
            what = "a module and is idle" if rank in used else "no module and is not idle"
            return Fault(f"rank {rank} has {what}; change modules.*.layout.ranks or world.idle")
    for rank in sorted(used):
        if rank >= placement.world_size:
            size = placement.world_size
            return Fault(f"rank {rank} has a module, expected ranks below {size}; raise world.size")
    for module, layout in plan.layouts.items():
        bounds = plan.splits[module]
        starts = [0, *(stop for _start, stop in bounds)]
        joined = all(start == end < stop for end, (start, stop) in zip(starts, bounds))
        if len(bounds) != layout.stages or not joined:
            return Fault(
                f"modules.{module}.layout.split: got {list(bounds)} as parts of the {layout.stages} stages on "
                f"ranks {format_ranks(layout.ranks)}, expected one run per stage, each starting where the "
                "last ended; correct it"
            )
    return None


def check_batch(plan: Plan, batch: BatchPlan) -> Fault | None:
    """The first document or item that is not computed exactly once, in its place and in its rows."""
    for module, rows in plan.rows.items():
        shares = batch.shares[module]
        sizes = [len(lanes) for lanes in shares]
        microbatches = plan.stages.count(module, plan.microbatches)
        if sizes != [rows.layout.dp] * microbatches:
            return Fault(
                f"step {batch.step}: {module} has shares for {sizes} lanes per microbatch, expected "
                f"{rows.layout.dp} for each of {microbatches}; plan the batch with the layouts of this "
                "plan"
            )
        for microbatch, lanes in enumerate(shares):
            for lane, share in enumerate(lanes):
                complaint = _share_complaint(batch, share, rows)
                if complaint is not None:
                    return _at(plan, module, microbatch, lane, complaint)
    return _check_documents(batch) or _check_once(plan, batch)


def _share_complaint(batch: BatchPlan, share: Share, rows: ModuleRows) -> str | None:
    size = rows.layout.lane_size
    if share.rows_out % size or not _goes_in(share, rows):
        entering = f"of {size * rows.merge}" if rows.queries else f"{rows.merge} times as many"
        return (
            f"{share.rows_in} rows enter and {share.rows_out} leave, expected a multiple of the "
            f"{size} ranks of a lane to leave and {entering} to enter; pad the share"
        )
    row_in, row_out = 0, 0
    for span in share.spans:
        name = _name(span)
        lead = 0 if span.item == DOCUMENT else rows.prefix
        if span.row_in - lead < row_in or span.row_out < row_out:
            starts = f"{span.row_in} and {span.row_out}"
            return f"{name} starts at rows {starts} inside the span before, expected no overlap; move it"
        expected = _expected_rows(batch, span, rows)
        if (span.rows_in, span.rows_out) != expected:
            wanted = f"expected {expected[0]} and {expected[1]} as its document says; plan the batch again"
            return f"{name} has {span.rows_in} rows in and {span.rows_out} out, {wanted}"
        if span.item != DOCUMENT and rows.queries and span.rows_out != rows.queries:
            return (
                f"{name} will emit {rows.queries} rows for {span.rows_out} placeholders, expected them equal; "
                "prepare the data for this projector"
            )
        if span.item != DOCUMENT and not rows.queries and span.rows_in != span.rows_out * rows.merge:
            return (
                f"{name} will emit {span.rows_in} / {rows.merge} rows for {span.rows_out} placeholders, "
                "expected them equal; prepare the data for this patch and merge size"
            )
        row_in, row_out = span.row_in + span.rows_in, span.row_out + span.rows_out
        if row_in > share.rows_in or row_out > share.rows_out:
            limits = f"{share.rows_in} and {share.rows_out}"
            return f"{name} ends at rows {row_in} and {row_out}, expected at most {limits}; pad more"
    return None


def _goes_in(share: Share, rows: ModuleRows) -> bool:
    """Whether the rows that enter fit: with queries whole groups on every rank, else `merge` times those that leave."""
    if rows.queries:
        return share.rows_in % (rows.layout.lane_size * rows.merge) == 0
    return share.rows_in == share.rows_out * rows.merge


def _expected_rows(batch: BatchPlan, span: Span, rows: ModuleRows) -> tuple[int, int]:
    document = batch.documents[span.document]
    if span.item == DOCUMENT:
        return document.tokens, document.tokens
    item = document.items[span.item]
    return rows.rows_in(item), item.rows


def _check_documents(batch: BatchPlan) -> Fault | None:
    """Placeholders inside their document and apart from each other, loss tokens among the tokens."""
    for number, document in enumerate(batch.documents):
        where = f"step {batch.step}: document {number} (source {document.source}, index {document.index})"
        if not 0 <= document.loss_tokens <= document.tokens:
            got = f"{document.loss_tokens} loss tokens of {document.tokens}"
            return Fault(f"{where} has {got}, expected 0 to all of them; prepare the data again")
        ahead = (document.loss_tokens, *document.mtp_loss_tokens)
        if any(not 0 <= further <= nearer for nearer, further in itertools.pairwise(ahead)):
            got = f"{list(ahead)} loss tokens from one to {len(ahead)} tokens ahead"
            return Fault(f"{where} has {got}, expected no more further ahead; prepare the data again")
        end = 0
        for item in sorted(document.items, key=lambda item: item.position):
            if item.position < end or item.position + item.rows > document.tokens:
                return Fault(
                    f"{where} has placeholders of {item.module} at rows {item.position} to "
                    f"{item.position + item.rows}, expected them between row {end} and {document.tokens}; "
                    "prepare the data again"
                )
            end = item.position + item.rows
    return None


def _check_once(plan: Plan, batch: BatchPlan) -> Fault | None:
    expected = {(plan.sink, d, DOCUMENT) for d in range(len(batch.documents))}
    for d, document in enumerate(batch.documents):
        for i, item in enumerate(document.items):
            expected |= {(module, d, i) for module, rows in plan.rows.items() if rows.computes(item)}
    seen: dict[tuple[str, int, int], int] = {}
    for module, microbatch, lane, span in _spans(plan, batch):
        key = (module, span.document, span.item)
        if key in seen or key not in expected:
            what = f"again after microbatch {seen[key]}" if key in seen else f"by {module}"
            remedy = "expected each in one share of its own module; plan the batch again"
            return _at(plan, module, microbatch, lane, f"{_name(span)} is computed {what}, {remedy}")
        seen[key] = microbatch
        home = batch.homes[span.document] // plan.stages.group(module)
        if home != microbatch:
            what = f"{_name(span)} is apart from its document in microbatch {home}"
            return _at(plan, module, microbatch, lane, f"{what}, expected both in one; plan the batch again")
    missing = min(expected - seen.keys(), default=None)
    if missing is not None:
        module, number, item_number = missing
        what = f"document {number}" if item_number == DOCUMENT else f"item {item_number} of document {number}"
        return Fault(f"step {batch.step}: {what} has no share in {module}, expected one; plan the batch again")
    return None


def _spans(plan: Plan, batch: BatchPlan) -> Iterator[tuple[str, int, int, Span]]:
    """All (module, microbatch, lane, span), documents before items."""
    for module in sorted(batch.shares, key=lambda name: name != plan.sink):
        for microbatch, lanes in enumerate(batch.shares[module]):
            for lane, share in enumerate(lanes):
                for span in share.spans:
                    yield module, microbatch, lane, span


def _name(span: Span) -> str:
    document = f"document {span.document}"
    return document if span.item == DOCUMENT else f"item {span.item} of {document}"


def _at(plan: Plan, module: str, microbatch: int, lane: int, complaint: str) -> Fault:
    layout = plan.layouts[module]
    where = f"{module}, microbatch {microbatch}, lane {lane}"
    rank = layout.lane_ranks(0, lane)[0]
    action: Action = Compute(Node(module, 0), Work.FORWARD, microbatch)
    return Fault(f"{where} (rank {rank} at {action}): {complaint}", ((rank, action),))
