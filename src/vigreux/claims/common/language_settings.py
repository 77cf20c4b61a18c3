"""The settings of the claim about language: two sources of text to learn from, and a third that nobody has seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.small_transformers import student_run, teacher_run, training
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import RunConfig, TaskConfig, TeachConfig
from vigreux.curriculum import Curriculum, Duration
from vigreux.curriculum.recipes import p_shot

if TYPE_CHECKING:
    from vigreux.probes.ngrams import NgramSettings

SOURCES = ("asset:wikipedia", "asset:state-of-the-union")  # small, in place of Wikipedia and Books
ELSEWHERE = "asset:hamlet"
EXTRACTION = ExtractionConfig(hidden_share=0.3)


@dataclass(frozen=True)
class LanguageSettings:
    """One scale of a masked language model, teacher and students of as many layers, students with fewer heads.

    On a laptop's budget it is RoFormer: BERT with rotary positions, which leaves the plateau of its loss within 300 steps, where
    BERT of the same size and rate is still on it after 1,000 (seen on the teacher's loss alone, before there was a student).

    Args:
        sources: of the text, as `task.data` names them; a tenth of the documents is held out.
        elsewhere: a source that nobody trains on.
        family: of all models.
        vocab_size: of the tokenizer, which is made from the training text.
        max_length: tokens a block.
        layers: of teacher and students.
        head: numbers a head.
        teacher_hidden, student_hidden: widths.
        batch: blocks a step.
        teacher_steps, teacher_rate: of the teacher, on labels, cosine with 6 % warm-up.
        every: steps between the teacher's checkpoints.
        steps: of a student.
        rate: of a student, cosine with 6 % warm-up.
        progressive_every: the teacher's steps between the checkpoints of progressive distillation.
        eval_every: steps between a student's evaluations.
        probe_sentences: held-out blocks of the n-gram probes.
        positions: where the n-gram probes look.
        mask_share: of tokens that are predicted.
        shot_share: of a 2-shot student's steps, those that the intermediate checkpoint teaches.
        max_eval: held-out blocks.
        seeds: of the students' initial weights and samples.
    """

    sources: tuple[str, ...]
    elsewhere: str
    family: str
    vocab_size: int
    max_length: int
    layers: int
    head: int
    teacher_hidden: int
    student_hidden: int
    batch: int
    teacher_steps: int
    teacher_rate: float
    every: int
    steps: int
    rate: float
    progressive_every: int
    eval_every: int
    probe_sentences: int
    positions: tuple[int, ...]
    mask_share: float = 0.15
    shot_share: float = 0.5
    max_eval: int = 400
    seeds: tuple[int, ...] = (0, 1, 2)

    def teacher(self) -> TeachConfig:
        """The teacher's run."""
        return teacher_run(
            self.task(),
            self.family,
            self.layers,
            self.teacher_hidden,
            steps=self.teacher_steps,
            keep_every=self.every,
            training=self._training(self.teacher_rate, self.every // 2),
            head=self.head,
            vocab_size=self.vocab_size,
        )

    def student(self, curriculum: str | Curriculum, seed: int, **changes: Any) -> RunConfig:
        """A student's run; `changes` replace fields of the configuration."""
        return student_run(
            self.task(),
            self.layers,
            self.student_hidden,
            curriculum,
            seed,
            steps=self.steps,
            training=self._training(self.rate, self.eval_every),
            head=self.head,
            **changes,
        )

    def two_shot(self, checkpoint: int, seed: int) -> RunConfig:
        """A student of one checkpoint, then of the final teacher."""
        return self.student(p_shot([checkpoint], stage=Duration.share(self.shot_share)), seed)

    def ngrams(self) -> NgramSettings:
        """How n-grams are probed: [MASK] is attended to, as in training."""
        from vigreux.probes.ngrams import NgramSettings

        return NgramSettings(positions=self.positions, attend_masked=True)

    def plain(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)

    def task(self) -> TaskConfig:
        """Masked tokens of the text."""
        return TaskConfig(
            kind="masked-lm",
            data=list(self.sources),
            max_length=self.max_length,
            mask_share=self.mask_share,
            max_eval=self.max_eval,
        )

    def _training(self, rate: float, eval_every: int) -> dict[str, Any]:
        return training(self.batch, 64, rate, eval_every, adam_beta2=0.95)


SETTINGS: dict[Preset, LanguageSettings] = {
    "smoke": LanguageSettings(
        sources=SOURCES, elsewhere=ELSEWHERE, family="roformer", vocab_size=200, max_length=24, layers=2, head=8, teacher_hidden=32,
        student_hidden=16, batch=8, teacher_steps=80, teacher_rate=2e-3, every=10, steps=40, rate=2e-3, progressive_every=30,
        eval_every=10, probe_sentences=8, positions=(6, 12), max_eval=16, seeds=(0,),
    ),
    "laptop": LanguageSettings(
        sources=SOURCES, elsewhere=ELSEWHERE, family="roformer", vocab_size=4096, max_length=64, layers=4, head=32,
        teacher_hidden=192, student_hidden=64, batch=64, teacher_steps=2000, teacher_rate=1e-3, every=40, steps=700, rate=2e-3,
        progressive_every=400, eval_every=40, probe_sentences=50, positions=(12, 24, 36, 48),
    ),
    "paper": LanguageSettings(
        sources=("Salesforce/wikitext:wikitext-103-raw-v1", "bookcorpus/bookcorpus"), elsewhere=ELSEWHERE, family="bert",
        vocab_size=30_522, max_length=128, layers=12, head=64, teacher_hidden=768, student_hidden=256, batch=256,
        teacher_steps=100_000, teacher_rate=3e-4, every=1000, steps=30_000, rate=1e-3, progressive_every=10_000, eval_every=500,
        probe_sentences=200, positions=(30, 60, 90), max_eval=2000,
    ),
}  # fmt: skip
