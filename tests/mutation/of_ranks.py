# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of what is cut, exchanged and executed on ranks."""

from tests.mutation import cases
from tests.mutation.mutant import Mutant

_M = "tests/unit/models/"
_BLOCKS, _TABLE, _DEFERRED = (
    (f"{_M}test_blocks.py",),
    (f"{_M}test_tensor_table.py",),
    (f"{_M}test_deferred_weights.py",),
)
_X = "tests/unit/execute/"
_INTERPRETER, _BRIDGE, _CHANNEL, _STAGE, _ROWS = (
    (f"{_X}test_{file}.py",) for file in ("interpreter", "bridge", "channel", "stage", "rowmap")
)

PARALLELIZE = [
    Mutant("parallelize.blocks:cut_block", "offset[cut.dim] += start", "offset[cut.dim] = start", (*_BLOCKS, f"{_M}test_expert_table.py")),
    Mutant("parallelize.blocks:Block.tensor_copies", '1 if self.reduction == "shard" else size', "size", _BLOCKS),
    Mutant("parallelize.initialize:Initial.std_at", "self.std / math.sqrt(residual_sums) if self.residual else self.std", "self.std", _BLOCKS),
    Mutant("parallelize.initialize:initialize_", '_key(seed, f"{module}.{block.name}")', "_key(seed, block.name)", _BLOCKS),
    Mutant("parallelize.initialize:_indices", "block.offset[0] + start", "block.offset[0]", _BLOCKS),
    Mutant("parallelize.tensor:", 'TensorRule("*.attention.[qk]_norm.weight", "share")', 'TensorRule("*.attention.[qk]_norm.weight", "whole")', _TABLE, (cases.PAIR,)),
    Mutant("parallelize.tensor:", 'TensorRule("mtp.*.join.weight", "rows")', 'TensorRule("mtp.*.join.weight", "whole")', _TABLE, (cases.FURTHER, cases.FURTHER_FROZEN)),
    Mutant("parallelize.tensor:_sharding", ' or role == "share"', "", _TABLE, (cases.WITHOUT_SEQUENCE,)),
    Mutant("parallelize.tensor:_own_words", "count=block.shape[0]", "count=shardings[name].local_shape(size)[0]", _TABLE, (cases.PAIR,)),
    Mutant("parallelize.tensor:_exchange_makers", "Leave: lambda: LeaveExchange(RowExchange(ranks.all_reduce, keep))", "Leave: lambda: LeaveExchange(RowExchange(ranks.all_reduce, ranks.all_reduce))", (), (cases.WITHOUT_SEQUENCE,)),
    Mutant("parallelize.context:HeadExchange.wanted", "// (heads // groups)", "% groups", (), (cases.KEYS_OVER_CP,)),
    Mutant("parallelize.context:HeadExchange._heads_to_rows", "return self.ranks.all_to_all(parts).transpose(0, 1).flatten(1, 2)", "return self.ranks.all_to_all(parts).transpose(0, 1).transpose(1, 2).flatten(1, 2)", (), (cases.CP_TP,)),
    Mutant("parallelize.context:ContextMix.forward", "self.mix(tuple(own), segments)", "self.mix((own[0], *own[:0:-1]), segments)", (), (cases.CP_TP,)),
    Mutant("parallelize.context:ContextMix.forward", "if segments.own is not None:", "if segments.own is not None and not segments.own.lengths:", (), (cases.IMAGES_OF_CP,),
           harmless="rows are traded for heads although they need not be: the same values, only slower"),
    Mutant("parallelize.expert:SumOverLane.forward", "self.lane.all_reduce(counts)", "counts", (), (cases.EXPERTS,)),
    Mutant("parallelize.expert:ExpertDispatch.bring", "index_copy(0, order, rows)", "index_copy(0, order.argsort(), rows)", (), (cases.EXPERTS,)),
    Mutant("parallelize.expert:_copies", "(leaving.cumsum(0) - leaving)", "leaving.cumsum(0)", (), (cases.EXPERTS_CUT,)),
    Mutant("parallelize.exchange:TensorGroup.own_share", "self.rank * share, share", "(self.size - 1 - self.rank) * share, share", (), (cases.WITHOUT_SEQUENCE,)),
    Mutant("parallelize.exchange:_Exchange.backward", "ctx.backward_operation(gradients[0])", "gradients[0]", (), (cases.WITHOUT_SEQUENCE,)),
    Mutant("parallelize.fsdp:shard_data_parallel", "sharded.set_gradient_divide_factor(1.0)", "sharded.set_gradient_divide_factor(2.0)", (), (cases.PAIR,)),
    Mutant("parallelize.fsdp:GradientHome.add", "weight.grad.add_(gradient)", "gradient", _DEFERRED, (cases.ZERO_BUBBLE,)),
    Mutant("parallelize.fsdp:finish_reduction", "if parameter.grad is None:", "if parameter.grad is None and reached:", (), (cases.NO_IMAGE,)),
    Mutant("parallelize.weights:_Multiply.backward", "partial(torch.sum, gradient, dim=0)", "partial(torch.mean, gradient, dim=0)", _DEFERRED),
    Mutant("parallelize.weights:WeightQueue.take", "pending, self._pending = self._pending, []", "pending = list(self._pending)", _DEFERRED),
]  # fmt: skip

EXECUTE = [
    Mutant("execute.rowmap:RowMap.build", "_rows([(copy.target_row, copy.rows) for copy in incoming])", "_rows([(copy.source_row, copy.rows) for copy in incoming])", _ROWS, (cases.PAIR,)),
    Mutant("execute.rowmap:_counts", "counts.get(peer, 0) + copy.rows", "copy.rows", _ROWS, (cases.PAIR,)),
    Mutant("execute.rowmap:_counts", "tuple(sorted(counts.items()))", "tuple(sorted(counts.items(), reverse=True))", _ROWS),
    Mutant("execute.rowmap:_rows", "torch.empty(0, dtype=torch.int64)", "torch.empty(0)", _ROWS),
    Mutant("execute.bridge:Bridge.begin", 'assert not self._open, "a step ends with all of its transfers complete"', "pass", _BRIDGE),
    Mutant("execute.bridge:Bridge.placed", "arrived.new_zeros(rows", "arrived.new_ones(rows", _BRIDGE, (cases.PAIR, cases.RADIO)),
    Mutant("execute.bridge:Bridge.placed", "if transfer.link.is_hop:", "if len(arrived) == rows:", _BRIDGE),
    Mutant("execute.bridge:Bridge.post", "place.copy_(kept)", "place.zero_()", _BRIDGE, (cases.COLOCATED,)),
    Mutant("execute.bridge:Bridge.post", "if forward and not transfer.link.is_hop", "if not transfer.link.is_hop", _BRIDGE),
    Mutant("execute.bridge:Bridge.post", "self._reap()", "pass", _BRIDGE),
    Mutant("execute.bridge:Bridge.post", "rows_of.receive_counts if forward else rows_of.send_counts", "rows_of.receive_counts", _BRIDGE),
    Mutant("execute.bridge:Bridge.post", "self._plan.placement, transfer.link, transfer.direction, self._rank", "self._plan.placement, transfer.link, Direction.FORWARD, self._rank", _BRIDGE),
    Mutant("execute.bridge:Bridge.post", "rounds.cut(self._rank, transfer.direction,", "rounds.cut(self._rank, Direction.FORWARD,", _BRIDGE),
    Mutant("execute.bridge:Bridge.post", "for _round, out, back in cut", "for _round, out, back in reversed(cut)", _BRIDGE),
    Mutant("execute.bridge:Bridge.post", "tensor.numel() * tensor.element_size()", "tensor.numel()", _BRIDGE),
    Mutant("execute.bridge:Bridge._reap", "e.received is None and all(p.is_completed() for p in e.pending)", "e.received is None", _BRIDGE),
    Mutant("execute.bridge:Bridge._reap", "e.received is None and ", "", _BRIDGE),
    Mutant("execute.bridge:Bridge._cut", "first += count", "first = count", _BRIDGE, (cases.PAIR, cases.COLOCATED)),
    Mutant("execute.bridge:Bridge._cut", "if peer == self._rank:", "if False:", _BRIDGE),
    Mutant("execute.bridge:Bridge._buffer", "self._plan.width(link)", "self._plan.widths[link.source.module].leaving", _INTERPRETER),
    Mutant("execute.bridge:Bridge.collect", "with self.waits:\n            _wait(exchange)", "_wait(exchange)", _BRIDGE),
    Mutant("execute.bridge:Bridge.finish", "_wait(exchange)", "pass", _BRIDGE),
    Mutant("execute.bridge:Bridge.finish", "self._open.clear()", "pass", _BRIDGE),
    Mutant("execute.stage:Stage._count", "self.loss + loss", "loss", (), (cases.PAIR,)),
    Mutant("execute.stage:Stage.backward", "if flight.outputs[port].requires_grad", "", (), (cases.FROZEN_TAPS,)),
    Mutant("execute.stage:_with_features", "if into >= 0:", "if into > 0:", (), (cases.DEPTHS,)),
    Mutant("execute.interpreter:Interpreter.run", "for observe in self._observers:\n                observe(action)\n            self._handlers[type(action)](action)", "self._handlers[type(action)](action)\n            for observe in self._observers:\n                observe(action)", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter.run", "self._handlers[type(action)](action)", "self._handlers.get(type(action), self._step)(action)", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter.run", "self._later.pop(step, {})", "self._later.get(step, {})", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter.run", "if step is not None:", "self._later = self._later if step is not None else {}\n        if step is not None:", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._forward", "self._number + action.ahead", "self._number + 1", _INTERPRETER, (cases.FROZEN_AHEAD,)),
    Mutant("execute.interpreter:Interpreter._forward", "elif transfer in self._live:", "else:", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._forward", "outputs[transfer.link.port]\n            elif", "outputs[\"\"]\n            elif", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._needs_backward", "(Work.BACKWARD, Work.INPUT)", "(Work.BACKWARD,)", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._arrival", "link.into)", "-1)", _INTERPRETER, (cases.DEPTHS,)),
    Mutant("execute.interpreter:Interpreter._arrival", "replace(transfer, direction=Direction.BACKWARD) in self._live", "True", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._arrived", "if t in self._live", "", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._backward", "gradients[port] + placed if port in gradients else placed", "placed", _INTERPRETER, (cases.FILLS_GAPS,)),
    Mutant("execute.interpreter:Interpreter._backward", "is_split = Compute(node, Work.WEIGHT, microbatch) in self._live", "is_split = action.work is Work.BACKWARD", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._backward", "self._begin_reduction(action)\n        found = stage.backward(microbatch, gradients, is_split)", "found = stage.backward(microbatch, gradients, is_split)\n        self._begin_reduction(action)", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._transfer", "self._rows.pop(action, None)", "self._rows.get(action)", _INTERPRETER),
    Mutant("execute.interpreter:Interpreter._step", "self._bridge.finish()\n        self._take_step()", "self._take_step()\n        self._bridge.finish()", _INTERPRETER),
    Mutant("execute.failure:describe", "error.exit_code if isinstance(error, CounterpointError) else 1", "1", ("tests/unit/train/test_failing.py", "tests/unit/cli/test_joined.py")),
    Mutant("execute.failure:is_lost_peer", "if is_torch and any(", "if any(", ("tests/unit/train/test_failing.py",)),
]  # fmt: skip
