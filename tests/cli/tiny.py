"""Tiny texts, tokenizers and saved models that the commands run on."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vigreux.tasks.tokenizers import train_tokenizer

CAUSAL, MASKED, CLASSES = "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"
TEXT = "the cat dog sat ran on a mat river stone glass column liquid rises falls boils twice slowly again under over red"  # noqa: E501
WORDS = TEXT.split()


def documents(count: int, seed: int = 0) -> list[str]:
    """Sentences of ten to twenty words."""
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(10, 20))) for _ in range(count)]


def write_text(path: Path, texts: list[str]) -> Path:
    """A .txt file, one paragraph a document."""
    path.write_text("\n\n".join(texts), encoding="utf-8")
    return path


def write_labelled(path: Path, texts: list[str]) -> Path:
    """A .jsonl file: a text is warm where it holds the word red."""
    rows = ({"text": text, "label": "warm" if "red" in text.split() else "cold"} for text in texts)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Tiny:
    """What most tests share: `root` holds text.txt (60 documents), other.txt (20 more) and labelled.jsonl."""

    root: Path
    bpe: PreTrainedTokenizerFast
    wordpiece: PreTrainedTokenizerFast

    @property
    def text(self) -> str:
        return str(self.root / "text.txt")

    @property
    def labelled(self) -> str:
        return str(self.root / "labelled.jsonl")


def make_tiny(root: Path) -> Tiny:
    """Writes the files and trains the tokenizers."""
    texts = documents(60)
    write_text(root / "text.txt", texts)
    write_text(root / "other.txt", documents(20, seed=1))
    write_labelled(root / "labelled.jsonl", texts)
    return Tiny(root, train_tokenizer(texts, 300, "bpe"), train_tokenizer(texts, 90, "wordpiece"))


def save_model(
    directory: Path, config: str, auto_class: str, tokenizer: Any, *, seed: int = 0, **settings: Any
) -> PreTrainedModel:
    """A model with random weights and its tokenizer, as `save_pretrained` leaves them."""
    made = getattr(transformers, config)(vocab_size=len(tokenizer), **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = getattr(transformers, auto_class).from_config(made)
    model.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return model


def save_llama(directory: Path, tokenizer: Any, *, layers: int = 3, seed: int = 0, **settings: Any) -> Path:
    """A causal teacher of 48 × `layers`."""
    sizes = {
        "hidden_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    sizes |= {
        "intermediate_size": 80,
        "max_position_embeddings": 64,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    save_model(directory, "LlamaConfig", CAUSAL, tokenizer, seed=seed, **sizes | settings)
    return directory


def save_bert(directory: Path, tokenizer: Any, auto_class: str = CLASSES, **settings: Any) -> Path:
    """A classifier (cold, warm) or masked teacher of 48 × 3."""
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80}
    labels = {
        "id2label": {0: "cold", 1: "warm"},
        "label2id": {"cold": 0, "warm": 1},
        "max_position_embeddings": 64,
    }
    save_model(directory, "BertConfig", auto_class, tokenizer, **sizes | labels | settings)
    return directory
