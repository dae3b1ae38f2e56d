# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of what is cut, exchanged and executed on ranks."""

from tests.mutation.mutant import Mutant

_M, _P, _D = "tests/unit/models/", "tests/parity/", "tests/distributed/"
_PAIRS = (f"{_P}test_named_layouts.py",)
_STEPS = (f"{_P}test_named_steps.py", f"{_P}test_named_layouts.py")

PARALLELIZE = [
    Mutant("parallelize.blocks:cut_block", "offset[cut.dim] += start", "offset[cut.dim] = start", (f"{_M}test_blocks.py", f"{_M}test_expert_table.py")),
    Mutant("parallelize.blocks:Block.tensor_copies", '1 if self.reduction == "shard" else size', "size", (f"{_M}test_blocks.py",)),
    Mutant("parallelize.initialize:Initial.std_at", "self.std / math.sqrt(residual_sums) if self.residual else self.std", "self.std", (f"{_M}test_blocks.py",)),
    Mutant("parallelize.initialize:initialize_", '_key(seed, f"{module}.{block.name}")', "_key(seed, block.name)", (f"{_M}test_blocks.py",)),
    Mutant("parallelize.initialize:_indices", "block.offset[0] + start", "block.offset[0]", (f"{_M}test_blocks.py",)),
    Mutant("parallelize.tensor:", 'TensorRule("*.attention.[qk]_norm.weight", "share")', 'TensorRule("*.attention.[qk]_norm.weight", "whole")', (f"{_M}test_tensor_table.py",), (f"{_D}test_pool_tasks.py", *_PAIRS)),
    Mutant("parallelize.tensor:", 'TensorRule("mtp.*.join.weight", "rows")', 'TensorRule("mtp.*.join.weight", "whole")', (f"{_M}test_tensor_table.py",), (f"{_P}test_further_tokens.py",)),
    Mutant("parallelize.tensor:_sharding", ' or role == "share"', "", (f"{_M}test_tensor_table.py",), (f"{_D}test_pool_tasks.py", *_PAIRS)),
    Mutant("parallelize.tensor:_own_words", "count=block.shape[0]", "count=shardings[name].local_shape(size)[0]", (f"{_M}test_tensor_table.py",), (f"{_D}test_pool_tasks.py", *_PAIRS)),
    Mutant("parallelize.tensor:_exchange_makers", "Leave: lambda: LeaveExchange(RowExchange(ranks.all_reduce, keep))", "Leave: lambda: LeaveExchange(RowExchange(ranks.all_reduce, ranks.all_reduce))", (_M,), (f"{_D}test_pool_tasks.py", *_PAIRS)),
    Mutant("parallelize.context:HeadExchange.wanted", "// (heads // groups)", "% groups", (_M,), _PAIRS),
    Mutant("parallelize.context:HeadExchange._heads_to_rows", ".transpose(0, 1).flatten(1, 2)", ".transpose(0, 1).transpose(1, 2).flatten(1, 2)", (_M,), _PAIRS),
    Mutant("parallelize.context:ContextMix.forward", "self.mix(queries, keys, values, segments.own)", "self.mix(queries, keys, values, segments)", (_M,), _PAIRS),
    Mutant("parallelize.expert:SumOverLane.forward", "self.lane.all_reduce(counts)", "counts", (_M,), _PAIRS),
    Mutant("parallelize.expert:ExpertDispatch.bring", "index_copy(0, order, rows)", "index_copy(0, order.argsort(), rows)", (_M,), _PAIRS),
    Mutant("parallelize.expert:_copies", "(leaving.cumsum(0) - leaving)", "leaving.cumsum(0)", (_M,), _PAIRS),
    Mutant("parallelize.exchange:TensorGroup.own_share", "self.rank * share, share", "(self.size - 1 - self.rank) * share, share", (_M,), (f"{_D}test_pool_tasks.py",)),
    Mutant("parallelize.exchange:_Exchange.backward", "ctx.backward_operation(gradients[0])", "gradients[0]", (_M,), (f"{_D}test_pool_tasks.py",)),
    Mutant("parallelize.fsdp:shard_data_parallel", "sharded.set_gradient_divide_factor(1.0)", "sharded.set_gradient_divide_factor(2.0)", (_M,), _PAIRS),
    Mutant("parallelize.fsdp:GradientHome.add", "weight.grad.add_(gradient)", "gradient", (f"{_M}test_deferred_weights.py",)),
    Mutant("parallelize.fsdp:finish_reduction", "if parameter.grad is None:", "if parameter.grad is None and reached:", (_M,), _PAIRS),
    Mutant("parallelize.weights:_Multiply.backward", "partial(torch.sum, gradient, dim=0)", "partial(torch.mean, gradient, dim=0)", (f"{_M}test_deferred_weights.py",)),
    Mutant("parallelize.weights:WeightQueue.take", "pending, self._pending = self._pending, []", "pending = list(self._pending)", (f"{_M}test_deferred_weights.py",)),
]  # fmt: skip

EXECUTE = [
    Mutant("execute.rowmap:RowMap.build", "_rows([(copy.target_row, copy.rows) for copy in incoming])", "_rows([(copy.source_row, copy.rows) for copy in incoming])", ("tests/unit/plan", "tests/unit/data"), _PAIRS),
    Mutant("execute.rowmap:_counts", "counts.get(peer, 0) + copy.rows", "copy.rows", ("tests/unit/plan", "tests/unit/data"), _PAIRS),
    Mutant("execute.bridge:Bridge.placed", "arrived.new_zeros(rows", "arrived.new_ones(rows", ("tests/unit/models",), _PAIRS),
    Mutant("execute.bridge:Bridge.post", "place.copy_(kept)", "place.zero_()", ("tests/unit/models",), _PAIRS),
    Mutant("execute.bridge:Bridge._cut", "first += count", "first = count", ("tests/unit/models",), _PAIRS),
    Mutant("execute.stage:Stage._count", "self.loss + loss", "loss", ("tests/unit/models",), _PAIRS),
    Mutant("execute.stage:Stage.backward", "if flight.outputs[port].requires_grad", "", ("tests/unit/models",), (f"{_D}test_frozen.py", *_STEPS)),
    Mutant("execute.stage:_with_features", "if into >= 0:", "if into > 0:", ("tests/unit/models",), (f"{_P}test_named_encoders.py",)),
    Mutant("execute.interpreter:Interpreter._backward", "gradients[port] + placed if port in gradients else placed", "placed", ("tests/unit/models",), _STEPS),
    Mutant("execute.interpreter:Interpreter._forward", "self._number + action.ahead", "self._number + 1", ("tests/unit/models",), _STEPS),
    Mutant("execute.interpreter:Interpreter._arrival", "link.into)", "-1)", ("tests/unit/models",), (f"{_P}test_named_encoders.py",)),
    Mutant("execute.failure:describe", "error.exit_code if isinstance(error, CounterpointError) else 1", "1", ("tests/unit/train/test_failing.py", "tests/unit/cli/test_joined.py")),
    Mutant("execute.failure:is_lost_peer", "isinstance(error, RuntimeError) and ", "", ("tests/unit/train/test_failing.py",)),
]  # fmt: skip
