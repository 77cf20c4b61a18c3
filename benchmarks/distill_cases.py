"""The models and batches of `benchmarks/distill.py`: random weights and tokens, equal for every contender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
)

BATCH, LENGTH = 4, 128
TEACHER, STUDENT = (6, 384, 6), (4, 256, 4)  # layers, hidden size, heads
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """What one contender is given.

    Args:
        kind: causal-lm, masked-lm or classification.
        teacher, student: models; the teacher in evaluation mode and without gradients.
        batch: input_ids, attention_mask, and labels aligned with the logits (−100 where no loss counts).
    """

    kind: str
    teacher: Any
    student: Any
    batch: dict[str, Tensor]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The batch without labels."""
        return {name: value for name, value in self.batch.items() if name != "labels"}

    @property
    def rows(self) -> Tensor:
        """(B, T) bool: where a loss counts."""
        return self.batch["labels"] != -100


def make_case(kind: str, vocabulary: int | None = None, batch: int = BATCH) -> Case:
    """Models and batch of a kind of task; `vocabulary` in place of GPT-2's or BERT's."""
    torch.manual_seed(0)
    teacher, student = (_model(kind, *sizes, vocabulary) for sizes in (TEACHER, STUDENT))
    ids = torch.randint(10, teacher.config.vocab_size, (batch, LENGTH))
    labels = {"causal-lm": torch.roll(ids, -1, 1), "classification": torch.randint(CLASSES, (batch,))}.get(
        kind, ids.clone()
    )
    if kind == "causal-lm":
        labels[:, -1] = -100
    elif kind == "masked-lm":
        labels[torch.rand(ids.shape) >= 0.15] = -100
    return Case(
        kind,
        teacher.eval().requires_grad_(False),
        student.train(),
        {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels},
    )


def _model(kind: str, layers: int, hidden: int, heads: int, vocabulary: int | None) -> Any:
    if kind == "causal-lm":
        sizes: dict[str, Any] = {"n_layer": layers, "n_embd": hidden, "n_head": heads, "n_positions": LENGTH}
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        return AutoModelForCausalLM.from_config(GPT2Config(vocab_size=vocabulary or 50_257, **sizes, **rates))
    config = BertConfig(
        vocab_size=vocabulary or 30_522,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=CLASSES,
    )
    return (AutoModelForMaskedLM if kind == "masked-lm" else AutoModelForSequenceClassification).from_config(
        config
    )
