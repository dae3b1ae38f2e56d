#!/usr/bin/env bash
# Trains on one machine or several. Run the same line on each machine; HEAD is the name of one of them, and every machine
# sees the config, the data and the run's folder.
#
#   examples/cluster/torchrun.sh recipes/nemotron6-moe-vlm-20l-disjoint.yaml
#   NODES=9 HEAD=node1 examples/cluster/torchrun.sh recipes/nemotron6-moe-vlm-54l.yaml training.steps=1000
#
# NODES machines with GPUS ranks each are world.size. After a failure torchrun starts all ranks again, at most RESTARTS
# times, and they go on from the newest checkpoint (with checkpoint.resume=none they end instead).
set -euo pipefail
: "${NODES:=1}" "${GPUS:=8}" "${HEAD:=localhost}" "${PORT:=29500}" "${RESTARTS:=3}"
exec torchrun --nnodes="$NODES" --nproc-per-node="$GPUS" --max-restarts="$RESTARTS" \
    --rdzv-backend=c10d --rdzv-id="counterpoint-$PORT" --rdzv-endpoint="$HEAD:$PORT" \
    -m counterpoint.cli train "$@"
