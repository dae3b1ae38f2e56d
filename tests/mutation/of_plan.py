# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of what is planned, converted and said by a trained model."""

from tests.mutation import cases
from tests.mutation.mutant import Mutant

_P, _J, _C, _M = (f"tests/unit/{room}/" for room in ("plan", "judge", "convert", "models"))
_ROUND, _LINKS = (
    f"{_C}test_round_trip.py",
    (f"{_C}test_pieces.py", f"{_C}test_modules_round_trip.py", f"{_C}test_round_trip.py"),
)
_EVALUATE = (
    "tests/unit/cli/test_evaluate.py",
    "tests/unit/cli/test_perfect_model.py",
    "tests/unit/models/test_plain.py",
)

PLAN = [
    Mutant("families.vit.spec:_intake", "merge=section.merge,", "merge=1,", ("tests/unit/families/test_intakes.py",)),
    Mutant("families.decoder.spec:_own_section", "for key in type(below).model_fields", 'for key in type(below).model_fields if key != "bias_rate"', ("tests/unit/families/test_decoder_letters.py", f"{_M}test_moe.py")),
    Mutant("families.decoder.model:_head", "section.mtp.weight / section.mtp.depths", "section.mtp.weight / section.mtp.depths**2", (f"{_M}test_mtp.py", f"{_J}test_mtp.py"), (cases.FURTHER_PLAIN,)),
    Mutant("families.encoder:_tap", '"norm": section.tap_norm', '"norm": section.projector.norm', (f"{_M}test_facts.py",)),
    Mutant("families.encoder_parts:layer_parts", '"norm": section.tap_norm', '"norm": section.projector.norm', (f"{_M}test_facts.py",)),
    Mutant("setup.plan:split_parts", "firsts[1:]", "firsts", ("tests/unit/cli/test_readme.py",)),
    Mutant("setup.plan:plan_of", "prefix=facts[name].prefix", "prefix=0", (), (cases.RADIO,)),
    Mutant("setup.plan:recomputed_kinds", 'if recompute == "full" else frozenset()', 'if recompute != "none" else config.modules[module].model.layer_kinds', ("tests/unit/setup/test_recomputed_kinds.py",)),
    Mutant("plan.batch:plan_batch", "(m + module.group) * lanes", "(m + 1) * lanes", (f"{_P}test_batch.py",)),
    Mutant("plan.batch:plan_batch", "number // lanes for number", "number % lanes for number", (f"{_P}test_batch.py", f"{_P}test_route.py")),
    Mutant("plan.batch:_deal", "load + costs[key]", "load + 1", (f"{_P}test_batch.py",)),
    Mutant("plan.batch:_item_share", "row + extents[d, i], row_out", "row + module.rows_in(item), row_out", (f"{_P}test_batch.py",)),
    Mutant("plan.batch:_item_share", "first * module.merge", "first", (f"{_P}test_batch.py", f"{_P}test_route.py")),
    Mutant("plan.batch:_item_share", "row_out + module.queries", "row_out + 1", (f"{_P}test_batch.py",)),
    Mutant("plan.batch:ModuleRows.lead", "-(-self.prefix // self.merge)", "self.prefix // self.merge", (f"{_P}test_batch.py", f"{_P}test_route.py")),
    Mutant("plan.batch:_padded", "-(-rows // multiple)", "(rows // multiple)", (f"{_P}test_batch.py",)),
    Mutant("plan.batch:BatchPlan.mtp_loss_tokens", "mtp_loss_tokens[depth]", "mtp_loss_tokens[0]", (), (cases.FURTHER_PLAIN,)),
    Mutant("plan.batch:BatchPlan.digest", "self.documents, ", "", (f"{_P}test_batch.py",)),
    Mutant("plan.batch:_cells", "len(packs) * i // count", "min(len(packs), i * -(-len(packs) // count))", (f"{_P}test_batch.py",)),
    Mutant("plan.route:_edge", "row + position", "row", (f"{_P}test_route.py",)),
    Mutant("plan.route:owned", "min(rows, size - row)", "min(rows, size)", (f"{_P}test_route.py",)),
    Mutant("plan.positions:position_runs", "max(item.rows // item.columns, item.columns)", "item.rows // item.columns", (f"{_P}test_positions.py",)),
    Mutant("plan.positions:position_runs", "row = item.position + item.rows", "row = item.position + 1", (f"{_P}test_positions.py",)),
    Mutant("plan.trainability:is_trained", "any(fnmatchcase", "all(fnmatchcase", (f"{_P}test_trainability.py",)),
    Mutant("plan.erase:Erasure._carries", "any(home in served", "all(home in served", (f"{_P}test_schedule.py", f"{_P}test_builders.py"), (cases.FILLS_GAPS,)),
    Mutant("plan.erase:Erasure._has_gradient", "self._carries(batch, link, exchange)\n                and ", "", (f"{_P}test_schedule.py", f"{_P}test_builders.py"), (cases.FROZEN_LANGUAGE, cases.WITHOUT_IMAGES)),
    Mutant("plan.layout:Layout.group", "for lane in lanes for c in range(self.cp))", "for lane in lanes for c in [cp])", (f"{_P}test_layout.py",)),
    Mutant("plan.layout:Layout.group", "% self.expert_size :: self.expert_size", "// self.expert_size :: self.expert_size", (f"{_P}test_layout.py",)),
    Mutant("plan.layout:Layout.expert_coordinate", "divmod(rest, self.etp)", "divmod(rest, self.ep)[::-1]", (f"{_P}test_layout.py",)),
    Mutant("plan.layout:Layout.lane_ranks", "stage % self.pp", "stage // self.chunks", (f"{_P}test_layout.py",)),
    Mutant("plan.placement:_dealt", "set(idle) | ", "", (f"{_P}test_placement.py",)),
    Mutant("plan.cost:Mask.pairs", "(reach - 1) // 2", "(reach + 1) // 2", (f"{_P}test_cost.py",)),
    Mutant("plan.cost:Cost.of", "rows + self.prefix", "rows", (f"{_M}test_facts.py",)),
    Mutant("families.conformer.spec:_facts", "4 * section.layers", "2 * section.layers", (f"{_M}test_facts.py",)),
    Mutant("plan.stages:Stages.target_microbatch", "self.group(link.target.module)", "self.group(link.source.module)", (f"{_P}test_builders.py",)),
    Mutant("plan.stages:Stages.count", "-(-microbatches // self.group(module))", "microbatches // self.group(module)", (f"{_P}test_builders.py",)),
    Mutant("plan.stages:Stages.carries_gradient", "self.has_backward(link.source)", "self.trains(link.source)", (f"{_P}test_builders.py", "tests/unit/check/test_plans_hold.py")),
    Mutant("plan.schedule:_by_depth", "-(-stages.depth(node) // group) + 1", "stages.depth(node) // group", (f"{_P}test_builders.py",)),
]  # fmt: skip

CONVERT = [
    Mutant("convert.blocks:Blocks.links", '"post_attention_layernorm" if layer % 2 else "input_layernorm"', '"input_layernorm" if layer % 2 else "post_attention_layernorm"', (f"{_J}test_judge.py",)),
    Mutant("convert.blocks:_moe_pattern", "(i + 1) % step", "i % step", (_ROUND, f"{_J}test_judge.py")),
    Mutant("convert.blocks:_moe", 'normalize=fields.flag("norm_topk_prob")', 'normalize=True', (_ROUND, f"{_J}test_judge.py")),
    Mutant("convert.blocks:Blocks.section", 'fields.number("rms_norm_eps")', '1e-6', (_ROUND, f"{_J}test_judge.py")),
    Mutant("convert.links:Joined.piece", "before + place[0].stop", "place[0].stop", _LINKS),
    Mutant("convert.links:ClassRow.piece", "slice(rows.start + 1, rows.stop + 1)", "slice(rows.start, rows.stop)", _LINKS),
    Mutant("convert.links:ClassRow.to_theirs", "torch.zeros_like(row)", "row", _LINKS),
    Mutant("convert.links:ChannelsLast.to_ours", "reshape(len(matrix), -1, self.channels).transpose(1, 2)", "reshape(len(matrix), self.channels, -1)", (f"{_J}test_towers.py",)),
    Mutant("convert.links:ByTap.to_theirs", "-1, self.inputs", "self.inputs, -1", _LINKS),
    Mutant("convert.links:Stacked.piece", "place[1:]", "place[:-1]", _LINKS),
    Mutant("convert.hybrid:_mamba_links", '("z", "x", "b", "c", "dt")', '("z", "x", "c", "b", "dt")', (f"{_J}test_judge.py", _ROUND)),
    Mutant("convert.hybrid:_moe", 'fields.number("routed_scaling_factor")', "1.0", (_ROUND, f"{_J}test_judge.py")),
    Mutant("convert.radio:radio_section", ' + fields.integer("num_registers", least=0)', "", (f"{_C}test_modules_round_trip.py", f"{_J}test_wholes.py")),
    Mutant("convert.rope:Rope.theta", "(self._section, self._fields)}", "(self._fields, self._section)}", (f"{_C}test_rope_fields.py", _ROUND)),
    Mutant("convert.rope:Rope.sections", "len(range(axis, pairs, 3))", "pairs", (f"{_C}test_rope_fields.py",)),
    Mutant("convert.rope:_llama3", "low_freq_factor=low", "low_freq_factor=high / 4", (f"{_C}test_rope_fields.py", _ROUND, f"{_J}test_own_start.py")),
    Mutant("convert.composite:_feature_layers", "layers + 1 + chosen", "layers + chosen", (f"{_C}test_modules_round_trip.py", f"{_J}test_wholes.py")),
    Mutant("convert.composite:_language", "if tied is not None:", "if tied:", (f"{_C}test_modules_round_trip.py", f"{_J}test_wholes.py")),
    Mutant("convert.clip:_siglip", '"antialias" if is_second', '"stretch" if is_second', (f"{_J}test_towers.py",)),
    Mutant("convert.start:links_to_start", "demand_shape(owner, name, shapes[name], tensor)", "pass", ("tests/unit/cli/test_warm_start.py", "tests/unit/cli/test_warm_towers.py")),
]  # fmt: skip

INFERENCE = [
    Mutant("inference.plain:_between", "index[inside] - start", "index[inside]", _EVALUATE),
    Mutant("modalities.rows:pack_items", "item.rows_in, item.columns,", "item.rows_in, item.columns and item.rows // item.columns,", _EVALUATE),
    Mutant("inference.plain:PlainModel.next_logits", "starts[1:] - 1", "starts[:-1]", _EVALUATE),
    Mutant("inference.plain:PlainModel.next_logits", "positions[:, 0]", "positions[:, 0] * 0", _EVALUATE),
    Mutant("inference.plain:PlainModel.next_logits", "deep=deep", "deep={}", _EVALUATE),
    Mutant("inference.plain:write", "ids[i] = np.append(ids[i], token)", "pass", _EVALUATE),
    Mutant("inference.plain:write", "if token != end:", "if True:", _EVALUATE),
    Mutant("inference.plain:PlainModel._packed", "+ start + item.position", "+ item.position", _EVALUATE),
    Mutant("inference.predictions:Prediction.is_exact", "self.truth == self.written", "self.written.startswith(self.truth)", ("tests/unit/inference/test_predictions.py",)),
    Mutant("inference.predictions:Predictions.exact", "max(len(self.rows), 1)", "max(len(self.rows) + self.without_target, 1)", ("tests/unit/inference/test_predictions.py",)),
    Mutant("inference.prompts:prompt_before", "if item.position < answer.start", "", _EVALUATE),
    Mutant("inference.prompts:answers_of", " | (text.ids[rows[:-1]] == end)", "", _EVALUATE),
    Mutant("inference.prompts:Answer.tokens", " - self.is_ended", "", _EVALUATE),
    Mutant("inference.prompts:laid_prompt", "lay_items(positions, placed)", "lay_items([0] * len(positions), placed)", _EVALUATE),
    Mutant("inference.sampling:Sampling._draw", "generator.random() * bounds[-1]", "generator.random()", _EVALUATE),
    Mutant("inference.sampling:Sampling.generator", "[self.seed, *key]", "[self.seed]", ("tests/unit/inference/test_predictions.py",)),
    Mutant("inference.evaluate:TrainedRun.converse", "said.append(Message(ASSISTANT, (text,)))", "pass", _EVALUATE),
]  # fmt: skip
