"""Names of Megatron's MIMO and what stands for each of them here: one table for messages and docs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """Names over there, the keys and commands that stand for them here (none: nothing to set), a remark.

    With `same_value` a value over there is one of ours.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    remark: str
    same_value: bool = False


def _axis(theirs: str, ours: str, remark: str) -> tuple[Row, Row]:
    """The rows of one axis of both modules."""
    return (
        Row((f"--encoder-{theirs}",), (f"modules.vision.layout.{ours}",), remark, same_value=theirs != "offset"),
        Row((f"--llm-{theirs}",), (f"modules.language.layout.{ours}",), remark, same_value=theirs != "offset"),
    )


TABLE: tuple[Row, ...] = (
    Row(("HyperCommGrid", "ModuleGridSpec"), ("modules.*.layout",), "degrees and a rank list; both have defaults"),
    *_axis("tp", "tp", "tensor parallelism of this module alone"),
    *_axis("pp", "pp", "pipeline stages of this module alone"),
    *_axis("cp", "cp", "context parallelism of this module alone"),
    *_axis(
        "dp",
        "dp_shard",
        "follows from the number of ranks if left out; `dp_replicate` is the number of replicas (HSDP)",
    ),
    *_axis("offset", "ranks", "a list of ranks in place of an offset"),
    *_axis("ep", "expert.ep", "the expert view of the same ranks"),
    *_axis("expert-tp", "expert.etp", "the expert view of the same ranks"),
    Row(
        ('register_view("expert")',),
        ("modules.*.layout.expert",),
        "the degrees of the experts on the ranks of the same layout",
    ),
    Row(
        ("module_to_grid_map", "create_topology"),
        ("modules.*.layout.ranks", "world.size"),
        "the ranks of each module, and of all",
    ),
    Row(
        ("RankRole", "MultiModuleProcessGroupCollection"),
        ("counterpoint plan",),
        "`--rank N` shows what rank N computes, sends and joins",
    ),
    Row(
        ("ProcessGroupCollection", ".from_hyper_comm_grid", "MimoModelInfra", "parallel_state"),
        (),
        "process groups are created once, from the plan, and passed as arguments",
    ),
    Row(
        ("MimoModel", "MimoModelProvider", "ModuleSpec", "--model-provider"),
        ("modules.*.model", "edges"),
        "modules and edges in the config",
    ),
    Row(("BridgeCommunicator",), ("edges",), "the plan computes for each edge which row goes from which rank to which"),
    Row(
        ("MultiModulePipelineCommunicator", "forward_backward_pipelining_without_interleaving"),
        ("schedule.kind", "schedule.microbatches"),
        "a schedule is a list of actions per rank, which one interpreter executes",
    ),
    Row(
        ("MimoOptimizer", "MimoSetup", "MimoRuntime"),
        ("modules.*.optimizer", "training.clip_norm"),
        "an optimizer per module; gradients are clipped by one norm over all modules",
    ),
    Row(
        ("--use-distributed-optimizer",),
        ("modules.*.layout.dp_shard", "modules.*.layout.dp_replicate"),
        "FSDP2 with sharding and replication degrees, per module",
    ),
    Row(
        (
            "finalize_model_grads_multimodule",
            "multimodule_no_sync",
            "correct_encoder_grad_for_partial_participation",
            "force_all_reduce",
        ),
        (),
        "gradients are sums over the global batch, divided by its number of loss tokens; nothing is left to correct",
    ),
    Row(("pretrain_mimo", "train_mimo", "mimo_step"), ("counterpoint train",), "one command"),
    Row(
        ("MimoDatasetProvider", "mimo_collate_fn", "get_mimo_dp_info"),
        ("counterpoint prepare", "data.train.*.path"),
        "`prepare` indexes a dataset as it is published once ([docs](data.md)); the planner assigns samples to ranks",
    ),
    Row(
        ("hf_provider",),
        ("counterpoint prepare",),
        "parquet, Arrow, tars and JSON of the Hugging Face Hub are read as published, from a folder or from `hf://datasets/OWNER/NAME`",
    ),
    Row(("mock provider", "MockVLMIterator"), ("data.train.*.synthetic",), "synthetic data is one of the data sources"),
    Row(
        ("--image-token-id", "--image-seq-length"),
        (),
        "positions and sizes of images are in the prepared index",
    ),
    Row(
        ("--dynamic-resolution",),
        ("modules.vision.model.image.max_patches", "modules.vision.model.image.size"),
        "images keep their resolution by default",
    ),
    Row(("--pixel-shuffle",), ("modules.vision.model.merge",), "merge x merge patches become one row"),
    Row(
        ("--disable-vision-class-token",),
        ("modules.vision.model.prefix",),
        "the number of class and register tokens, which never leave the encoder; 0, the default, for none",
    ),
    Row(
        ("--freeze-vit", "--radio-force-eval-mode"),
        ("modules.vision.train",),
        "`none` freezes: no parameter gradients, no optimizer state, evaluation mode",
    ),
    Row(
        ("--freeze-lm",), ("modules.language.train",), "`none` freezes; gradients still flow through it to the encoders"
    ),
    Row(("--training-stage",), ("modules.*.train",), "`all`, `none` or patterns of names, per module"),
    Row(
        ("--load-vision-from", "--vision-encoder-checkpoint"),
        ("modules.vision.init_from",),
        "the same checkpoint of a RADIO encoder (torch.distributed.checkpoint), in which `prefix` names the encoder "
        "and `skip` what is not read; also a Hugging Face folder or a run folder of counterpoint",
        same_value=True,
    ),
    Row(
        ("--load-nemotron-checkpoint", "--language-model-checkpoint", "--pretrained-checkpoint"),
        ("modules.language.init_from",),
        "a Hugging Face folder or a run folder of counterpoint; of Megatron checkpoints only the encoder of images is "
        "read: export the language model first",
    ),
    Row(
        ("--audio-encoder-checkpoint",),
        ("modules.audio.init_from",),
        "a Hugging Face folder or a run folder of counterpoint; of Megatron checkpoints only the encoder of images is "
        "read: export the audio encoder first",
    ),
    Row(
        ("--finetune", "--no-load-optim", "--no-load-rng"),
        ("modules.*.init_from",),
        "a warm start begins at step 0 with new optimizer states",
    ),
    Row(
        ("--ckpt-format", "--dist-ckpt-format"),
        (),
        "checkpoints are always torch.distributed.checkpoint; `init_from` recognises the format of a folder",
    ),
    Row(
        ("--load", "--dataloader-save"),
        ("checkpoint.resume",),
        "checkpoints in `run.dir`, which include the state of the data order; no run of Megatron is resumed, but "
        "`modules.vision.init_from` reads the encoder of its checkpoints",
    ),
    Row(("--save",), ("run.dir",), "the run folder, which holds everything that the run writes", same_value=True),
    Row(
        ("--save-interval",),
        ("checkpoint.every_steps",),
        "steps between checkpoints; the last step is always saved",
        same_value=True,
    ),
    Row(
        ("--no-load-strict",),
        (),
        "loading is always strict: name parameters that are not to be loaded in `init_from.fresh` of their module, and "
        "tensors of a Megatron checkpoint that are not to be read in `init_from.skip`; all others must fit",
    ),
    Row(
        ("--allow-missing-vision-projection-checkpoint",),
        ("modules.vision.init_from.fresh",),
        "a list of name patterns of parameters that are not loaded: `[projector.*]`",
    ),
    Row(
        ("eval_interval", "--eval-interval"),
        ("evaluation.every_steps",),
        "training steps between evaluations",
        same_value=True,
    ),
    Row(
        ("eval_iters", "--eval-iters"),
        ("data.evaluation", "evaluation.batch_samples"),
        "each split is evaluated completely, in batches of `batch_samples`",
    ),
    Row(("throughput_world_size",), (), "MFU is reported per module, relative to its own ranks and to all ranks"),
    Row(("--llm-only",), ("modules",), "write a config with one module"),
    Row(("--train-iters",), ("training.steps",), "optimizer steps", same_value=True),
    Row(
        ("--global-batch-size",),
        ("training.global_batch_samples",),
        "samples per step, over all data-parallel ranks",
        same_value=True,
    ),
    Row(("--micro-batch-size",), ("schedule.microbatches",), "the number of microbatches, not their size"),
    Row(("--seq-length",), ("data.sequence_tokens",), "the token budget of a sequence", same_value=True),
    Row(
        ("--sequence-parallel",),
        ("modules.*.layout.sequence_parallel",),
        "per module; on by default",
    ),
    Row(
        ("--tp-comm-overlap",),
        ("training.tp_overlap",),
        "on by default; uses PyTorch's symmetric memory, no further package",
    ),
    Row(("--tensor-model-parallel-size",), ("modules.*.layout.tp",), "per module", same_value=True),
    Row(("--pipeline-model-parallel-size",), ("modules.*.layout.pp",), "per module", same_value=True),
    Row(
        ("--num-layers-per-virtual-pipeline-stage", "--num-virtual-stages-per-pipeline-rank"),
        ("modules.*.layout.chunks", "schedule.kind"),
        "stages per rank, with `schedule.kind: interleaved`; encoders may have several too",
    ),
    Row(
        ("--mtp-num-layers", "--mtp-loss-scaling-factor"),
        ("modules.*.model.mtp.depths", "modules.*.model.mtp.weight"),
        "multi-token prediction; every layout supports it",
    ),
    Row(("--delay-wgrad-compute",), ("schedule.kind",), "`zero_bubble` computes weight gradients separately, later"),
    Row(
        ("--recompute-granularity", "--recompute-activations", "--recompute-modules"),
        ("modules.*.recompute", "modules.*.recompute_keeps"),
        "per module: `full`, or a list of layer kinds, `norms`, `activations` and `convs`; layers that are recomputed "
        "keep attention's output with `recompute_keeps: [attention]`",
    ),
    Row(
        ("--recompute-method", "--recompute-num-layers"),
        ("modules.*.recompute",),
        "by kind of layer; each layer is recomputed for itself",
    ),
    Row(
        (
            "--cpu-offloading",
            "--cpu-offloading-num-layers",
            "--fine-grained-activation-offloading",
            "--offload-modules",
        ),
        ("modules.*.offload",),
        "`true` for all layers of a module",
    ),
    Row(("--context-parallel-size",), ("modules.*.layout.cp",), "per module", same_value=True),
    Row(("--expert-model-parallel-size",), ("modules.*.layout.expert.ep",), "per module", same_value=True),
    Row(("--expert-tensor-parallel-size",), ("modules.*.layout.expert.etp",), "per module", same_value=True),
    Row(("--lr",), ("modules.*.optimizer.lr",), "per module", same_value=True),
    Row(("--clip-grad",), ("training.clip_norm",), "one norm over all modules", same_value=True),
    Row(("--bf16",), ("training.precision.compute",), "`bfloat16`; parameters stay float32"),
    Row(
        ("run_hetero_nemotron_20l_mock_train.sh",), ("counterpoint train",), "with `recipes/nemotron6-moe-vlm-20l.yaml`"
    ),
)


def megatron_hint(argument: str) -> str | None:
    """What to write in place of a Megatron name or flag (`--encoder-tp`, `--encoder-tp=2`), else None."""
    written, _, value = argument.partition("=")
    name = _normal(written)
    row = next((row for row in TABLE if name in map(_normal, row.theirs)), None)
    if row is None:
        return None
    if not row.ours:
        return f"{written} is a Megatron name with nothing to set here: {row.remark}"
    is_setting = value != "" and row.same_value
    ours = f"{row.ours[0]}={value}" if is_setting else " and ".join(row.ours)
    return f"{written} is a Megatron name; here it is {ours} ({row.remark})"


def _normal(name: str) -> str:
    """One spelling for `--encoder-tp`, `encoder_tp` and `encoder-tp`."""
    return name.strip().removeprefix("--").replace("-", "_")
