"""The settings of the claims about grammars (C9, C9g, C10; arXiv 2410.05464, arXiv 2503.17494)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.transformer_scale import TransformerScale, random_model, training_section
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import ModelConfig, TaskConfig
from vigreux.run.folder import RunFolder

if TYPE_CHECKING:
    from vigreux.probes.ngrams import NgramSettings

EXTRACTION = ExtractionConfig(hidden_share=0.3)


@dataclass(frozen=True, kw_only=True)
class GrammarScale(TransformerScale):
    """One scale of models on sentences of a grammar.

    BERT predicts 30 % of the tokens, and [MASK] is hidden from attention as in the papers' runs. GPT-2
    predicts the next token.

    Args:
        grammar: The value of `task.data`.
        max_length: Tokens of the longest sentence that is not cut, with [BOS] and [EOS].
        probe_sentences: Held-out sentences of the n-gram probes.
        positions: The positions of the n-gram probes.
        probe_training, probe_held_out: Sentences of the non-terminal probe.
        max_eval: Held-out sentences of an evaluation.
        family: bert or gpt2.
        boundary_level: GPT-2 predicts only tokens that end a non-terminal of this level or a higher one; 0 is
            all tokens.
    """

    grammar: str
    max_length: int
    probe_sentences: int
    positions: tuple[int, ...]
    probe_training: int
    probe_held_out: int
    max_eval: int = 500
    family: Literal["bert", "gpt2"] = "bert"
    boundary_level: int = 0

    def task(self) -> TaskConfig:
        """Masked or next tokens of the sentences."""
        shared = TaskConfig(data=self.grammar, max_length=self.max_length, max_eval=self.max_eval)
        if self.family == "bert":
            return replace(shared, kind="masked-lm", mask_share=0.3, attend_masked=False)
        return replace(shared, kind="causal-lm", boundary_level=self.boundary_level)

    def teacher_model(self) -> ModelConfig:
        """A random model of the family."""
        return random_model(self.family, self.layers, self.teacher_hidden)

    def training(self, rate: float, eval_every: int) -> dict[str, Any]:
        """The section `training`."""
        return training_section(self.batch, 125, rate, eval_every, adam_beta2=0.95)

    def ngrams(self) -> NgramSettings:
        """The settings of the n-gram probes: [MASK] is hidden from attention, as in training."""
        from vigreux.probes.ngrams import NgramSettings

        return NgramSettings(positions=self.positions)


SCALES: dict[Preset, GrammarScale] = {
    "smoke": GrammarScale(
        grammar="grammar:cfg3b:k",
        max_length=32,
        layers=2,
        teacher_hidden=32,
        student_hidden=16,
        batch=16,
        teacher_steps=120,
        teacher_rate=5e-3,
        every=10,
        steps=60,
        rate=5e-3,
        progressive_every=40,
        eval_every=10,
        probe_sentences=16,
        positions=(6, 12, 18),
        probe_training=64,
        probe_held_out=32,
        max_eval=64,
        seeds=(0,),
    ),
    "laptop": GrammarScale(
        grammar="grammar:cfg3b:m",
        max_length=80,
        layers=4,
        teacher_hidden=64,
        student_hidden=32,
        batch=64,
        teacher_steps=3000,
        teacher_rate=2e-3,
        every=50,
        steps=1200,
        rate=2e-3,
        progressive_every=250,
        eval_every=40,
        probe_sentences=100,
        positions=(8, 16, 24, 32),
        probe_training=2048,
        probe_held_out=512,
    ),
    "paper": GrammarScale(
        grammar="grammar:cfg3b",
        max_length=512,
        layers=4,
        teacher_hidden=256,
        student_hidden=64,
        batch=512,
        teacher_steps=8000,
        teacher_rate=5e-3,
        every=100,
        steps=8000,
        rate=5e-3,
        progressive_every=1000,
        eval_every=100,
        probe_sentences=200,
        positions=tuple(range(30, 450, 30)),
        probe_training=10_240,
        probe_held_out=1024,
    ),
}

# GPT-2 on cfg3f, which has more rules, of unequal lengths; it predicts tokens that end a non-terminal
GPT2_SCALES: dict[Preset, GrammarScale] = {
    "smoke": replace(SCALES["smoke"], grammar="grammar:cfg3f:k", family="gpt2", boundary_level=1),
    "laptop": replace(
        SCALES["laptop"],
        grammar="grammar:cfg3f:m",
        family="gpt2",
        boundary_level=1,
        teacher_steps=2000,
        steps=1000,
    ),
    "paper": replace(
        SCALES["paper"], grammar="grammar:cfg3f", family="gpt2", boundary_level=1, progressive_every=500
    ),
}


def grammar_teacher(lab: Lab, scale: GrammarScale) -> RunFolder:
    """The finished teacher, with its checkpoints."""
    name = "grammar-teacher" if scale.family == "bert" else f"grammar-{scale.family}-teacher"
    return lab.taught(scale.teacher(), name)
