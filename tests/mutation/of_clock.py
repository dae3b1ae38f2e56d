# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of the clock of real costs, and of what is said of timed steps."""

from tests.mutation.mutant import Mutant

_OPERATIONS, _SHARDING, _ESTIMATE = (
    f"tests/unit/simulate/test_{name}.py" for name in ("operations", "sharding", "estimate")
)
_HOSTS, _CALIBRATED = "tests/unit/simulate/test_hosts.py", "tests/unit/calibrate/test_host.py"
_EXPLAIN, _PLAN, _RUN = (f"tests/unit/report/test_{name}.py" for name in ("explain", "plan_command", "training_report"))
_TIMING = "tests/unit/train/metrics/test_timing.py"
_FACTS = "tests/unit/models/test_facts.py"

CLOCK = [
    Mutant("simulate.operations:_Part._listed", "_cut(out, self._tp)", "out", (_OPERATIONS,)),
    Mutant("simulate.operations:_Part._listed", "min(1.0, (counted - of_experts) / of_rows)", "1.0", (_OPERATIONS,)),
    Mutant("simulate.operations:_Part._choices", "self._layout.etp * top", "top", (_OPERATIONS,)),
    Mutant("simulate.operations:_Part._ranks_reached", "1.0 - share_without", "1.0", (_OPERATIONS,)),
    Mutant("simulate.operations:_Part._trades", "or self._setting.is_whole", "", (_OPERATIONS,)),
    Mutant("simulate.operations:_Part._exchanges", '"reduce_scatter" if backward else "all_gather", before', '"all_gather", before', (_OPERATIONS,)),
    Mutant("simulate.operations:part_operations", "backward = (*again, *backward)", "pass", (_OPERATIONS,)),
    Mutant("simulate.operations:part_operations", "keeps and isinstance(one, Core)", "isinstance(one, Core)", (_OPERATIONS,)),
    Mutant("simulate.operations:part_operations", "return PartOperations((*forward, *backward, *weights), (), ())", "pass", (_OPERATIONS,)),
    Mutant("simulate.sharding:overlapped", "max(gathered, begins[-1] if begins else 0.0) + gather", "gathered + gather", (_SHARDING,)),
    Mutant("simulate.sharding:overlapped", "max(summed, free) + reduction", "summed + reduction", (_SHARDING,)),
    Mutant("simulate.sharding:_units", "0 if plan.layouts[node.module].reshard else LEAST_GROUP", "LEAST_GROUP", (_SHARDING,)),
    Mutant("simulate.hosts:_Queue.end", "max(start, self.free)", "start", (_HOSTS,)),
    Mutant("simulate.hosts:_Queue.end", "ready = max(ready, time + later * each)", "pass", (_HOSTS,)),
    Mutant("simulate.hosts:_Queue.end", "last, max(ready, self._when(last - QUEUE))", "last, ready", (_HOSTS,)),
    Mutant("simulate.hosts:_Queue.end", "end = max(now + seconds, ready)", "end = now + seconds", (_HOSTS,)),
    Mutant("simulate.hosts:_Queue.after", "max(self.free + rest, 0.0)", "self.free", (_HOSTS,)),
    Mutant("simulate.estimate:_on_gpus", "again.end)", "hosts.end)", (_ESTIMATE,)),
    Mutant("simulate.sharding:sharded_groups", "len(part.tensors) - numbers[place]", "len(part.tensors)", (_SHARDING,)),
    Mutant("simulate.shard_prices:passes_of", "gathers * tensors", "gathers * count", (_ESTIMATE,)),
    Mutant("simulate.estimate:_late", " - prices.cost(rank, one.action)", "", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices._price", "if is_forward or is_again]", "if is_forward]", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices.updating", "updated_tensors=self._trained_tensors(rank)", "updated_tensors=0", (_ESTIMATE,)),
    Mutant("simulate.shard_prices:ShardPrices._adds", "casts else 1.0", "not casts else 1.0", (_ESTIMATE,)),
    Mutant("simulate.seconds:calls_of", "2 if by_parts else 1", "1", (_ESTIMATE, _OPERATIONS)),
    Mutant("simulate.operations:_Part._traffic", "len(self._sublayers) * self._own_rows()", "self._own_rows()", (_OPERATIONS,)),
    Mutant("calibrate.host:HostLayers._beyond_kernels", "self._beside_tables(how) - kernels", "self._beside_tables(how)", (_CALIBRATED,)),
    Mutant("simulate.estimate:play", "max(machine.end, max(prices.begins.values()), launching)", "machine.end", (_ESTIMATE,)),
    Mutant("simulate.figures:mean_breakdown", "one.idle * n", "one.idle", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices._price", "self._shards.groups_of(action)", "()", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices.begins", "self.update(rank)", "0.0", (_ESTIMATE,)),
    Mutant("simulate.shard_prices:sums_of", "sums=len(trained)", "sums=0", (_ESTIMATE,)),
    Mutant("simulate.shard_prices:sums_of", " if group.trained", "", (_ESTIMATE,)),
    Mutant("simulate.shard_prices:ShardPrices._is_reached", "bool(group.trained) or ", "True or ", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices._price", "part.inputs.kernels > 0", "True", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices._transfer", "* flow.columns for", "* flow.columns * flow.count for", (_ESTIMATE,)),
    Mutant("simulate.cast:Cast._meets", "layout.reshard or ", "", (_ESTIMATE,)),
    Mutant("simulate.cast:Cast._meets", "layout.expert_size > layout.lane_size", "False", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices._price", "part.forward.kernels if is_forward else part.again", "part.forward.kernels", (_ESTIMATE,)),
    Mutant("simulate.operations:part_operations", "PartOperations(forward, backward, weights, again)", "PartOperations(forward, backward, weights)", (_ESTIMATE,)),
    Mutant("simulate.part_prices:PartPrices._operations", "node.module != plan.sink and ", "", (_ESTIMATE,)),
    Mutant("simulate.prices:Prices._of_shards", "count * seconds(-(-trained // count))", "seconds(trained)", (_ESTIMATE,)),
    Mutant("simulate.estimate:_scale", "max(hardware.alone, count / hardware.ranks_per_node)", "count / hardware.ranks_per_node", (_ESTIMATE,)),
    Mutant("simulate.estimate:_scale", "one.start <= begin and one.end >= end", "True", (_ESTIMATE,)),
    Mutant("check.machine:Machine.__init__", "now=started.get(rank, 0.0)", "now=0.0", (_ESTIMATE,)),
    Mutant("layers.attention.spec:_facts", "Mixer(section.heads, section.num_kv_heads, head)", "Mixer(section.heads, section.heads, head)", (_FACTS,)),
    Mutant("report.explain:waits", "one.waited > 0.0", "True", (_EXPLAIN,)),
    Mutant("report.explain:_uneven", "own[slowest] - median(own.values())", "own[slowest]", (_EXPLAIN,)),
    Mutant("report.trace:_slice", "(end - start)", "end", (_PLAN,)),
    Mutant("report.run_record:read_timeline", '["steps"][-1]', '["steps"][0]', (_RUN,)),
    Mutant("train.metrics.timing:TimedStep.actions", "if has_arrived:", "if False:", (_TIMING,)),
    Mutant("train.loop:Pace.is_timed", "min(first + number, self.steps)", "first + number", (_TIMING,)),
]  # fmt: skip
