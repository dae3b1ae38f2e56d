"""RADIO as NVIDIA publishes it: a config.json without sizes, whose `args` are those of the program that trained it.

That program (NVlabs/RADIO) builds a tower of timm from a few of them and of the keys around them. A tower that is not
known here for certain is refused, and so is a key that is not known to have no part in it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

from counterpoint.convert.fields import Fields
from counterpoint.convert.keys import Keys


class Sizes(NamedTuple):
    """Sizes of a tower of timm: its MLPs are four times as wide, patches have 16 rows and columns."""

    hidden: int
    layers: int
    heads: int


@final
class PublishedSizes(NamedTuple):
    """What `args` say of a tower: `positions` is the side of the square table, tokens and registers are learned rows.

    `summary` are the numbers of the tokens that make a summary.
    """

    sizes: Sizes
    channels: int
    positions: int
    tokens: int
    registers: int
    summary: tuple[int, ...]

    @property
    def prefix(self) -> int:
        """The number of learned rows."""
        return self.tokens + self.registers


PATCH = 16
MLP_RATIO = 4
_MODELS: Mapping[str, Sizes] = {
    "vit_small_patch16_224": Sizes(384, 12, 6),
    "vit_base_patch16_224": Sizes(768, 12, 12),
    "vit_large_patch16_224": Sizes(1024, 24, 16),
    "vit_huge_patch16_224": Sizes(1280, 32, 16),
}

WITHOUT_EFFECT = frozenset({
    # Heads that imitate other models read what the tower says.
    "adaptor_names", "adaptor_configs",
    # About pictures' sizes, and about films.
    "version", "max_resolution", "preferred_resolution", "min_num_patches", "max_num_patches",
    "video_target_num_patches", "video_maintain_aspect_ratio", "video_prompt_version", "use_flash_attn",
})  # fmt: skip

_TRAINING = frozenset({
    "aa", "amp", "amp_dtype", "amp_impl", "aug_repeats", "aug_splits", "auto_loss_balance_mode",
    "auto_workload_inspector", "batch_size", "bn_eps", "bn_momentum", "cache_dir", "channels_last", "checkpoint_folder",
    "checkpoint_hist", "chk_keep_forever", "class_map", "clip_grad", "clip_mode", "coco_annotations_file",
    "coco_image_dir", "color_jitter", "cooldown_epochs", "crd_loss", "crd_loss_weight", "crop_pct", "cutmix",
    "cutmix_minmax", "damp", "data_dir", "dataset", "dataset_download", "ddp_comm_fp16", "ddp_comm_power_sgd",
    "debug_full_knn", "decay_epochs", "decay_milestones", "decay_rate", "depchain", "detect_anomaly", "device",
    "dist_bn", "dist_norm_weight", "distributed", "drop", "drop_block", "drop_connect", "drop_path", "dtype", "epoch",
    "epoch_repeats", "epochs", "eval", "eval_metric", "eval_teacher", "eval_teacher_only", "eval_throughput",
    "fast_norm", "fd_loss_fn", "feature_normalization", "feature_summarizer", "feature_upscale_factor",
    "force_disable_damp", "force_disable_spectral_reparam", "force_new_wandb_id", "force_spectral_reparam", "freeze_bn",
    "fsdp", "fuser", "gp", "grad_accum_steps", "grad_checkpointing", "head_init_bias", "head_init_scale", "head_warmup",
    "head_weight_decay", "hflip", "img_size", "initial_checkpoint", "interpolation", "layer_decay", "local_rank",
    "log_interval", "log_mlflow", "log_wandb", "loss_auto_balance", "lr_base", "lr_base_scale", "lr_base_size",
    "lr_cycle_decay", "lr_cycle_limit", "lr_cycle_mul", "lr_k_decay", "lr_noise", "lr_noise_pct", "lr_noise_std",
    "max_num_patches", "mean", "mesa", "min_lr", "min_num_patches", "mixup", "mixup_mode", "mixup_off_epoch",
    "mixup_prob", "mixup_switch_prob", "mlp_hidden_size", "mlp_num_inner", "mlp_version", "momentum", "no_aug",
    "no_ddp_bb", "no_prefetcher", "no_resume_opt", "num_classes", "opt_betas", "opt_eps", "patience_epochs", "pin_mem",
    "prefetcher", "pretrained", "rank", "ratio", "recount", "recovery_interval", "remode", "reprob", "reset_loss_state",
    "resplit", "save_images", "scale", "sched", "seed", "smoothing", "spectral_heads", "split_bn", "start_epoch", "std",
    "stream_teachers", "sync_bn", "synchronize_step", "torchcompile", "torchscript", "train_interpolation",
    "train_split", "tta", "use_coco", "use_multi_epochs_loader", "val_ema_only", "val_split", "vflip", "vitdet_version",
    "wandb_entity", "wandb_job_type", "wandb_name", "wandb_project", "warmup_lr", "warmup_prefix", "worker_seeding",
    "workers", "world_size",
})  # fmt: skip
"""Of the program's training and of the heads that it trains beside the tower."""


def published_sizes(fields: Fields) -> PublishedSizes:
    """What a config.json with `args` says of the tower; raises CheckpointError."""
    for key in ("vitdet_window_size", "feature_normalizer_config", "inter_feature_normalizer_config"):
        fields.demand(key)
    fields.demand("patch_size", PATCH)
    fields.demand("separate_video_embedder", True)
    args = fields.arguments("args", Keys(without_effect=_TRAINING))
    args.demand("model", *_MODELS)
    args.demand("model_norm", False)
    args.demand("spectral_reparam", False)
    args.demand("model_kwargs", {})
    cpe = args.integer("cpe_max_size")
    used = _teachers(args)
    tokens = len(used) if args.flag("cls_token_per_teacher") else 1
    found = PublishedSizes(
        _MODELS[args.text("model")],
        _channels(args),
        round(cpe / PATCH),
        tokens,
        _registers(args, tokens),
        tuple(token for token, is_used in enumerate(used.values()) if is_used and token < tokens),
    )
    args.refuse_rest()
    return found


def as_transformers_writes(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A config.json of NVIDIA's own program in the keys of transformers' own RADIO; raises CheckpointError."""
    found = published_sizes(Fields(config, where, "radio"))
    keys = {
        "hidden_size": found.sizes.hidden,
        "num_hidden_layers": found.sizes.layers,
        "num_attention_heads": found.sizes.heads,
        "mlp_ratio": float(MLP_RATIO),
        "num_channels": found.channels,
        "patch_size": PATCH,
        "max_img_size": PATCH * found.positions,
        "num_cls_tokens": found.tokens,
        "num_registers": found.registers,
        "summary_idxs": list(found.summary),
        "architectures": ["RadioModel"],
    }
    return {**keys, **{key: config[key] for key in _SHARED if config.get(key) is not None}}


_SHARED = ("video_temporal_patch_size", "torch_dtype", "dtype")
"""Keys that both programs have."""


def _channels(args: Fields) -> int:
    shape = args.integers("input_size") if args.has("input_size") else (3,)
    return args.integer("in_chans") if args.has("in_chans") else shape[0]


def _registers(args: Fields, tokens: int) -> int:
    """So many registers as are stated, or as fill up the class tokens to the next multiple."""
    registers = args.integer("cpe_num_registers", least=0) if args.has("cpe_num_registers") else 0
    multiple = args.integer("register_multiple", least=0) if args.has("register_multiple") else 0
    return registers or (multiple - tokens % multiple if multiple else 0)


def _teachers(args: Fields) -> dict[str, bool]:
    """The names of teachers, each of which has a class token of its own, and whether that makes a summary."""
    args.has("teachers")
    teachers = args.values.get("teachers")
    if not isinstance(teachers, list) or not teachers:
        raise args.unlike("teachers", teachers, "a list of teachers")
    found: dict[str, bool] = {}
    for teacher in teachers:
        name = _name(args, teacher)
        found[name] = found.get(name, False) or bool(teacher.get("use_summary", True))
    return found


def _name(args: Fields, teacher: object) -> str:
    name = teacher.get("name") if isinstance(teacher, Mapping) else None
    if not isinstance(name, str):
        raise args.unlike("teachers", teacher, "teachers with names")
    return name
