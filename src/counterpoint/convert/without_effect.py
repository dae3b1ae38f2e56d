"""Keys of config.json that change no converted value, for all models and by `model_type`; those of towers and decoders
are in their own files.

A key that is neither here nor read is refused. The tests flip each of them in transformers and see nothing change.
"""

from collections.abc import Mapping

_TOKENS = frozenset({
    "bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "tokenizer_class", "prefix",
    # transformers gives this word's row no gradient; packed documents have no padding that would need it.
    "pad_token_id",
})  # fmt: skip
_GENERATION = frozenset({
    "use_cache", "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "num_return_sequences", "remove_invalid_values",
    "exponential_decay_length_penalty", "output_scores", "return_dict_in_generate", "num_logits_to_keep",
})  # fmt: skip
_ABOUT_THE_FILE = frozenset({
    "architectures", "model_type", "transformers_version", "_name_or_path", "_commit_hash", "dtype", "torch_dtype",
    "auto_map", "finetuning_task", "task_specific_params", "problem_type", "id2label", "label2id", "num_labels",
    "_attn_implementation_autoset", "_attn_implementation", "attn_implementation",
})  # fmt: skip
_OUTPUTS = frozenset({
    "output_hidden_states", "output_attentions", "return_dict", "torchscript", "tf_legacy_loss", "use_bfloat16",
    "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "add_cross_attention", "tie_encoder_decoder",
    "cross_attention_hidden_size", "pruned_heads", "output_router_logits", "router_aux_loss_coef",
})  # fmt: skip
_BEGINNING = frozenset({"initializer_range", "initializer_factor", "init_std"})
"""How weights are drawn that are not loaded."""

_LEFT_OUT_IN_TRAINING = frozenset({
    "attention_dropout", "dropout", "hidden_dropout", "activation_dropout", "dropout_positions", "layerdrop",
    "encoder_layerdrop", "decoder_layerdrop", "attention_probs_dropout_prob", "hidden_dropout_prob", "drop_path_rate",
})  # fmt: skip
"""What is dropped at random in training, which here drops nothing."""

OF_TEXT = frozenset({"max_position_embeddings", "pretraining_tp", "max_window_layers"})
"""Of decoders."""

_MARKS = frozenset({
    "image_token_id", "image_token_index", "video_token_id", "audio_token_id", "vision_start_token_id",
    "vision_end_token_id", "vision_token_id", "video_token_index",
})  # fmt: skip
"""Words that stand for items, whose rows are laid out by data here."""

OF_ALL = _TOKENS | _GENERATION | _ABOUT_THE_FILE | _OUTPUTS | _BEGINNING | _LEFT_OUT_IN_TRAINING

WITHOUT_EFFECT: Mapping[str, frozenset[str]] = {
    "clip": frozenset({"text_config", "projection_dim", "logit_scale_init_value", "text_config_dict"}),
    "siglip": frozenset({"text_config"}),
    "siglip2": frozenset({"text_config"}),
    "qwen2_5_vl_vision": frozenset({"tokens_per_second", "in_chans", "spatial_patch_size"}),
    "qwen3_vl_vision": frozenset({"in_chans"}),
    "parakeet_ctc": frozenset({"vocab_size", "ctc_loss_reduction", "ctc_zero_infinity"}),
    "qwen2_5_vl": _MARKS | OF_TEXT,
    "qwen3_vl": _MARKS,
    "llava": _MARKS | {"image_seq_length", "vocab_size"},
    "nemotron_h_omni": _MARKS | {
        "force_image_size", "vision_hidden_size", "video_pruning_rate", "video_temporal_patch_size",
        # In files of the program beside published weights.
        "img_context_token", "video_context_token", "sound_context_token", "img_start_token", "img_end_token",
        "max_sequence_length", "patch_size", "use_thumbnail", "template", "image_tag_type", "norm_mean", "norm_std",
    },
}  # fmt: skip
