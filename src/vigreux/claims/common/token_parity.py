"""The settings of the claims about transformers on sparse parity (C8, C12t; arXiv 2410.05464)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.transformer_scale import TransformerScale, random_model, training_section
from vigreux.claims.common.transition import accuracy_curve, checkpoints
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import ModelConfig, TaskConfig, TeachConfig
from vigreux.run.folder import RunFolder
from vigreux.selection import find_transitions, select_checkpoints

EXTRACTION = ExtractionConfig(hidden_share=0.3)
TEACHER_NAME = "token-parity-teacher"
PREFIX = "token-parity-"  # of the students' folders


@dataclass(frozen=True, kw_only=True)
class TokenParityScale(TransformerScale):
    """One scale of GPT-2 on parity: bits are tokens, and the last position gives the class.

    Args:
        n, k: Coordinates, and those that the label depends on.
        max_eval: Held-out inputs of an evaluation.
        task_seed: Draws these coordinates.
    """

    n: int
    k: int
    max_eval: int = 2000
    task_seed: int = 0

    def task(self) -> TaskConfig:
        """The parity of k of n bits."""
        data = f"parity:n={self.n},k={self.k},seed={self.task_seed}"
        return TaskConfig(kind="classification", data=data, max_length=self.n + 1, max_eval=self.max_eval)

    def teacher_model(self) -> ModelConfig:
        """A random GPT-2."""
        return random_model("gpt2", self.layers, self.teacher_hidden)

    def training(self, rate: float, eval_every: int) -> dict[str, Any]:
        """The section `training`."""
        return training_section(self.batch, 500, rate, eval_every)

    def teacher(self) -> TeachConfig:
        """The run of the teacher, at a constant rate after the warm-up."""
        config = super().teacher()
        return replace(config, training=config.training | {"lr_scheduler_type": "constant_with_warmup"})


SCALES: dict[Preset, TokenParityScale] = {
    "smoke": TokenParityScale(
        n=10,
        k=2,
        layers=2,
        teacher_hidden=32,
        student_hidden=8,
        batch=64,
        teacher_steps=120,
        teacher_rate=1e-3,
        every=10,
        steps=60,
        rate=1e-3,
        progressive_every=40,
        eval_every=20,
        max_eval=500,
        seeds=(0,),
    ),
    "laptop": TokenParityScale(
        n=20,
        k=3,
        layers=2,
        teacher_hidden=64,
        student_hidden=8,
        batch=128,
        teacher_steps=600,
        teacher_rate=1e-3,
        every=10,
        steps=1500,
        rate=1e-3,
        progressive_every=20,
        eval_every=25,
    ),
    "paper": TokenParityScale(
        n=100,
        k=6,
        layers=2,
        teacher_hidden=256,
        student_hidden=32,
        batch=32,
        teacher_steps=250_000,
        teacher_rate=3e-4,
        every=2500,
        steps=250_000,
        rate=1e-4,
        progressive_every=5000,
        eval_every=1250,
    ),
}


def transition_of(teacher: RunFolder) -> dict[str, Any]:
    """`start` and `end` of the rise of the teacher's accuracy, and the checkpoint `selected` in it.

    Raises:
        ConfigError: the accuracy has no phase transition, or no checkpoint lies inside it.
    """
    accuracy = accuracy_curve(teacher)
    chosen = select_checkpoints(accuracy, checkpoints(teacher), shots=2)[0]
    transitions = find_transitions(accuracy)
    return {
        "selected": chosen.step,
        "start": min(transition.start for transition in transitions),
        "end": max(transition.end for transition in transitions),
    }
