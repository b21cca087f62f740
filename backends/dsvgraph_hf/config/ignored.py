"""Attributes of a config.json that do not change what a model computes, and the values at which others do not."""

from __future__ import annotations

from typing import Any

Values = tuple[Any, ...]

IGNORED = (
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "_commit_hash",
    "_experts_implementation_internal", "_flash_attn_2_enabled", "_name_or_path", "_output_attentions",
    "_post_init_done", "_pre_quantization_dtype", "architectures", "attn_implementation", "aux_loss_alpha",
    "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "cache_implementation",
    "classifier_dropout", "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "ep_size", "experts_implementation",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
    "gradient_checkpointing", "head_dtype", "id2label", "initial_context_length", "keys_to_ignore_at_inference",
    "label2id", "length_penalty", "max_length", "max_sequence_length", "min_length", "model_max_length", "model_type",
    "name_or_path", "neftune_noise_alpha", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_past", "output_router_logits",
    "output_scores", "pad_token_id", "prefix", "problem_type", "remove_invalid_values", "repetition_penalty",
    "return_dict", "return_dict_in_generate", "router_aux_loss_coef", "sep_token_id", "seq_aux", "suppress_tokens",
    "task_specific_params", "temperature", "tokenizer_class", "tokenizer_model_max_length", "tokenizer_padding_side",
    "top_k", "top_p", "torch_dtype", "torchscript", "transformers.js_config", "transformers_version", "typical_p",
    "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache", "use_flash_attn", "use_flash_attention",
    "use_flash_attention_2", "xla_device",
)  # fmt: skip
"""Attributes that say how a model is run, stored, trained or named, not what it computes."""

FIXED: dict[str, Values] = {
    "add_cross_attention": (False,),
    "chunk_size_feed_forward": (0,),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "partial_rotary_factor": (1, 1.0, None),
    "per_layer_config": (None,),
    "pretraining_tp": (1, None),
    "pruned_heads": ({}, None),
    "tf_legacy_loss": (False,),
    "tie_encoder_decoder": (False,),
    "tie_last_hidden_states": (True, None),
}
"""Attributes that are accepted at these values only: at others they change the model, which no spec can express."""

OFF: Values = (False, None)
NONE: Values = (0, 0.0, None)
ONE: Values = (1, 1.0, None)
NULL: Values = (None,)
FOREIGN: dict[str, Values] = {
    "attention_probs_dropout_prob": NONE,
    "attn_logit_softcapping": NULL,
    "attn_pdrop": NONE,
    "embd_pdrop": NONE,
    "embedding_multiplier": ONE,
    "final_logit_softcapping": NULL,
    "hidden_dropout": NONE,
    "hidden_dropout_prob": NONE,
    "logits_scaling": ONE,
    "mlp_bias": OFF,
    "num_mtp_layers": NONE,
    "num_nextn_predict_layers": NONE,
    "parallel_attn": OFF,
    "qk_layer_norms": OFF,
    "qk_layernorm": OFF,
    "qkv_bias": OFF,
    "resid_pdrop": NONE,
    "residual_multiplier": ONE,
    "rope_interleaved": OFF,
    "rope_ratio": ONE,
    "rotary_pct": ONE,
    "sliding_window": NULL,
    "use_bias": OFF,
    "use_mrope": OFF,
    "use_parallel_residual": OFF,
    "use_qk_norm": OFF,
    "use_qkv_bias": OFF,
    "use_sliding_window": OFF,
}
"""Attributes of other families, which a family does not read, with the values that change nothing there."""

NORMED: dict[str, Values] = dict.fromkeys(("qk_layer_norms", "qk_layernorm", "use_qk_norm"), (True,))
"""As FOREIGN, for families whose queries and keys are normalized."""


def is_among(value: Any, values: Values) -> bool:
    """Return whether a value is one of ``values``, as JSON tells them apart: `1`, `1.0` and `true` are three."""
    return any(value == v and type(value) is type(v) for v in values)
