"""A tiny, randomly initialised model of every family that the library claims to handle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

VOCAB = 61
LAYERS = 3
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "vocab_size": VOCAB,
    "max_position_embeddings": 40,
}
DECODER = SIZES | {
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MASKED, CAUSAL = "AutoModelForMaskedLM", "AutoModelForCausalLM"
CLASSES = "AutoModelForSequenceClassification"


@dataclass(frozen=True)
class Family:
    """How to build a family's tiny config, and the classes that exist beside the headless model."""

    config: str
    arguments: dict[str, Any]
    heads: tuple[str, ...]
    headless: str = "AutoModel"


FAMILIES = {
    "bert": Family("BertConfig", SIZES | {"intermediate_size": 48}, (MASKED, CLASSES)),
    "roberta": Family("RobertaConfig", SIZES | {"intermediate_size": 48}, (MASKED, CLASSES)),
    "distilbert": Family(
        "DistilBertConfig",
        {"dim": 32, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 48, "vocab_size": VOCAB, "max_position_embeddings": 40},  # noqa: E501
        (MASKED, CLASSES),
    ),
    "deberta-v2": Family(
        "DebertaV2Config",
        SIZES
        | {"intermediate_size": 48, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"}  # noqa: E501
        | {"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0},  # noqa: E501
        (MASKED, CLASSES),
    ),
    "deberta-v2-conv": Family(
        "DebertaV2Config",
        SIZES
        | {"intermediate_size": 48, "relative_attention": True, "conv_kernel_size": 3, "conv_act": "gelu", "type_vocab_size": 2}  # noqa: E501
        | {"pos_att_type": ["p2c", "c2p"]},
        (MASKED,),
    ),
    "electra": Family("ElectraConfig", SIZES | {"intermediate_size": 48, "embedding_size": 16}, (MASKED, CLASSES)),  # noqa: E501
    "gpt2": Family("GPT2Config", SIZES | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}, (CAUSAL, CLASSES)),  # noqa: E501
    "gpt-neox": Family("GPTNeoXConfig", SIZES | {"intermediate_size": 48, "pad_token_id": 0}, (CAUSAL, CLASSES)),  # noqa: E501
    "opt": Family("OPTConfig", SIZES | {"ffn_dim": 48, "pad_token_id": 0}, (CAUSAL, CLASSES)),
    "opt-projected": Family(
        "OPTConfig",
        SIZES | {"ffn_dim": 48, "pad_token_id": 0, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
        (CAUSAL,),
    ),
    "llama": Family("LlamaConfig", DECODER, (CAUSAL, CLASSES)),
    "mistral": Family("MistralConfig", DECODER | {"sliding_window": 4}, (CAUSAL, CLASSES)),
    "qwen2": Family("Qwen2Config", DECODER | {"max_window_layers": 2}, (CAUSAL, CLASSES)),
    "qwen3": Family("Qwen3Config", DECODER | {"head_dim": 16}, (CAUSAL, CLASSES)),
    "gemma": Family("GemmaConfig", DECODER | {"head_dim": 16}, (CAUSAL, CLASSES)),
    "gemma2": Family("Gemma2Config", DECODER | {"head_dim": 16, "sliding_window": 4}, (CAUSAL, CLASSES)),
    "phi": Family("PhiConfig", DECODER, (CAUSAL, CLASSES)),
    "t5-encoder": Family(
        "T5Config",
        {"d_model": 32, "num_layers": LAYERS, "num_heads": 4, "d_kv": 8, "d_ff": 48, "vocab_size": VOCAB},
        (),
        "AutoModelForTextEncoding",
    ),
    "modernbert": Family(
        "ModernBertConfig",
        SIZES | {"intermediate_size": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1}  # noqa: E501
        | {"sep_token_id": 2, "local_attention": 8},
        (MASKED, CLASSES),
    ),
    "vit": Family(
        "ViTConfig",
        {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
        | {"image_size": 16, "patch_size": 8},
        ("AutoModelForImageClassification",),
    ),
}  # fmt: skip
EVERY_MODEL = [(name, auto) for name, family in FAMILIES.items() for auto in (family.headless, *family.heads)]
LANGUAGE_MODELS = [(name, auto) for name, auto in EVERY_MODEL if auto in (MASKED, CAUSAL)]


def config_of(name: str) -> PreTrainedConfig:
    """The family's tiny config, a fresh object."""
    family = FAMILIES[name]
    config: PreTrainedConfig = getattr(transformers, family.config)(**family.arguments, num_labels=3)
    return config


@cache
def model_of(name: str, auto_class: str = "AutoModel", *, seed: int = 0) -> PreTrainedModel:
    """A model of the family in eval mode, with no parameter at a special value (norms and biases are random
    too).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = getattr(transformers, auto_class).from_config(config_of(name))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batch_of(name: str, *, labels: bool = True) -> dict[str, Tensor]:
    """Three sentences of 10, 7 and 4 tokens, padded on the right; three images for vision."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "vit":
            return {"pixel_values": torch.randn(3, 3, 16, 16), "labels": torch.tensor([0, 1, 2])}
        ids = torch.randint(3, VOCAB, (3, 10))
    mask = torch.arange(10) < torch.tensor([[10], [7], [4]])
    batch = {"input_ids": ids * mask, "attention_mask": mask.long()}
    return batch | {"labels": torch.full((3, 10), -100)} if labels else batch
