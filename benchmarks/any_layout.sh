#!/usr/bin/env bash
# Four GPUs: `verify` of both tiny pairs in float64 on random layouts, and the 3B-class hybrid in bf16.
# Usage: benchmarks/any_layout.sh OUT; runs from a checkout, installed or with src on PYTHONPATH.
set -u
out=$1
part() { echo; echo "== $* ($SECONDS s)"; }
counterpoint="python3 -m counterpoint.cli"
for pair in hybrid tiny; do
  part verify random, $pair
  timeout 140 $counterpoint verify tests/parity/$pair.yaml run.device=cuda --random 30 --seed 3 --world-size 4 --json "$out/$pair.json" 2>&1 | tail -60
done
hybrid="timeout 80 $counterpoint train examples/hybrid_3b.yaml"
part hybrid, ep4
$hybrid run.dir="$out/hybrid_ep4" 2>&1 | tail -8
part hybrid, tp2 with ep4
$hybrid run.dir="$out/hybrid_tp2_ep4" modules.language.layout.tp=2 2>&1 | tail -8
part hybrid, ep2 and etp2
$hybrid run.dir="$out/hybrid_ep2_etp2" modules.language.layout.expert.ep=2 modules.language.layout.expert.etp=2 2>&1 | tail -8
tail -qn 1 "$out"/hybrid_*/metrics.jsonl
rm -rf "$out"/*/checkpoints "$out"/*/tensorboard
