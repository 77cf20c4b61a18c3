"""The settings of the claim about masked language models (C11): two sources of text, and a third one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.transformer_scale import TransformerScale, random_model, training_section
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import ModelConfig, TaskConfig

if TYPE_CHECKING:
    from vigreux.probes.ngrams import NgramSettings

SOURCES = ("asset:wikipedia", "asset:state-of-the-union")  # small, in place of Wikipedia and Books
ELSEWHERE = "asset:hamlet"
EXTRACTION = ExtractionConfig(hidden_share=0.3)
TEACHER_NAME = "language-teacher"
PREFIX = "language-"  # of the students' folders


@dataclass(frozen=True, kw_only=True)
class LanguageScale(TransformerScale):
    """One scale of a masked language model. Students have fewer heads than the teacher.

    The laptop's models are RoFormer, which is BERT with rotary positions: it leaves the plateau of its loss
    within 300 steps. BERT of the same size and rate was still on it after 1,000 steps. (This was seen on the
    teacher's loss alone, before any student was trained.)

    Args:
        sources: Values of `task.data`; a tenth of the documents is held out.
        elsewhere: A source that no model is trained on.
        family: The family of all models.
        vocab_size: Of the tokenizer, which is trained on the training text.
        max_length: Tokens of a block.
        head: Numbers in a head.
        probe_sentences: Held-out blocks of the n-gram probes.
        positions: The positions of the n-gram probes.
        mask_share: The share of tokens that is predicted.
        max_eval: Held-out blocks.
    """

    sources: tuple[str, ...]
    elsewhere: str
    family: str
    vocab_size: int
    max_length: int
    head: int
    probe_sentences: int
    positions: tuple[int, ...]
    mask_share: float = 0.15
    max_eval: int = 400

    @property
    def head_size(self) -> int:
        """Numbers in a head."""
        return self.head

    def task(self) -> TaskConfig:
        """Masked tokens of the text."""
        return TaskConfig(
            kind="masked-lm",
            data=list(self.sources),
            max_length=self.max_length,
            mask_share=self.mask_share,
            max_eval=self.max_eval,
        )

    def teacher_model(self) -> ModelConfig:
        """A random model of the family."""
        return random_model(
            self.family,
            self.layers,
            self.teacher_hidden,
            head_size=self.head,
            vocab_size=self.vocab_size,
        )

    def training(self, rate: float, eval_every: int) -> dict[str, Any]:
        """The section `training`."""
        return training_section(self.batch, 64, rate, eval_every, adam_beta2=0.95)

    def ngrams(self) -> NgramSettings:
        """The settings of the n-gram probes: [MASK] is attended to, as in training."""
        from vigreux.probes.ngrams import NgramSettings

        return NgramSettings(positions=self.positions, attend_masked=True)


SCALES: dict[Preset, LanguageScale] = {
    "smoke": LanguageScale(
        sources=SOURCES,
        elsewhere=ELSEWHERE,
        family="roformer",
        vocab_size=200,
        max_length=24,
        layers=2,
        head=8,
        teacher_hidden=32,
        student_hidden=16,
        batch=8,
        teacher_steps=80,
        teacher_rate=2e-3,
        every=10,
        steps=40,
        rate=2e-3,
        progressive_every=30,
        eval_every=10,
        probe_sentences=8,
        positions=(6, 12),
        max_eval=16,
        seeds=(0,),
    ),
    "laptop": LanguageScale(
        sources=SOURCES,
        elsewhere=ELSEWHERE,
        family="roformer",
        vocab_size=4096,
        max_length=64,
        layers=4,
        head=32,
        teacher_hidden=192,
        student_hidden=64,
        batch=64,
        teacher_steps=2000,
        teacher_rate=1e-3,
        every=40,
        steps=700,
        rate=2e-3,
        progressive_every=400,
        eval_every=40,
        probe_sentences=50,
        positions=(12, 24, 36, 48),
    ),
    "paper": LanguageScale(
        sources=("Salesforce/wikitext:wikitext-103-raw-v1", "bookcorpus/bookcorpus"),
        elsewhere=ELSEWHERE,
        family="bert",
        vocab_size=30_522,
        max_length=128,
        layers=12,
        head=64,
        teacher_hidden=768,
        student_hidden=256,
        batch=256,
        teacher_steps=100_000,
        teacher_rate=3e-4,
        every=1000,
        steps=30_000,
        rate=1e-3,
        progressive_every=10_000,
        eval_every=500,
        probe_sentences=200,
        positions=(30, 60, 90),
        max_eval=2000,
    ),
}
