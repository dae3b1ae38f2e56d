#!/usr/bin/env bash
# Four GPUs: `verify` in float64, the demo's config against the CPU's losses, and the 1.6B pair disjoint and colocated in bf16.
# Usage: benchmarks/first_light.sh OUT [CPU_METRICS_JSONL]; runs from a checkout, installed or with src on PYTHONPATH.
set -u
out=$1; cpu=${2:-}
part() { echo; echo "== $*"; }
pair="timeout 150 python3 -m counterpoint.cli train examples/pair_1b.yaml"
part verify the demo on its own layout
timeout 120 python3 -m counterpoint.cli verify examples/emoji.yaml run.device=cuda 2>&1 | tail -14
part verify random
timeout 240 python3 -m counterpoint.cli verify tests/parity/tiny.yaml run.device=cuda --random 40 --seed 9 --world-size 4 --json "$out/verify.json" 2>&1 | tail -50
part emoji float32
timeout 120 python3 -m counterpoint.cli train examples/emoji.yaml run.device=cuda training.steps=30 log.every_steps=5 run.dir="$out/emoji" checkpoint.every_steps=null evaluation.every_steps=null 2>&1 | tail -12
[ -n "$cpu" ] && python3 benchmarks/compare_losses.py "$cpu" "$out/emoji/metrics.jsonl"
part emoji bf16 colocated
timeout 120 python3 -m counterpoint.cli train examples/emoji.yaml run.device=cuda training.steps=30 log.every_steps=5 run.dir="$out/emoji16" training.precision.compute=bfloat16 "modules.vision.layout={ranks: [0,1,2,3]}" "modules.language.layout={ranks: [0,1,2,3], tp: 2}" checkpoint.every_steps=null evaluation.every_steps=null 2>&1 | tail -12
part pair disjoint
$pair run.dir="$out/pair_disjoint" 2>&1 | tail -8
part pair colocated
$pair run.dir="$out/pair_colocated" "modules.vision.layout={ranks: [0,1,2,3]}" "modules.language.layout={ranks: [0,1,2,3], tp: 2}" 2>&1 | tail -8
tail -qn 1 "$out"/pair_*/metrics.jsonl
rm -rf "$out"/*/checkpoints "$out"/*/tensorboard
