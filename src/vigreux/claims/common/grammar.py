"""The settings that the claims about probabilistic grammars share (arXiv 2410.05464; arXiv 2503.17494)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.small_transformers import student_run, teacher_run, training
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import RunConfig, TaskConfig, TeachConfig
from vigreux.curriculum import Curriculum, Duration
from vigreux.curriculum.recipes import p_shot

if TYPE_CHECKING:
    from vigreux.probes.ngrams import NgramSettings


@dataclass(frozen=True)
class GrammarSettings:
    """One scale of models on sentences of a grammar, teacher and students of as many layers.

    BERT predicts 30 % of the tokens, with [MASK] hidden from attention as in the papers' runs; GPT-2 the next token.

    Args:
        grammar: as `task.data` names it.
        max_length: tokens of the longest sentence that is not cut, [BOS] and [EOS] with it.
        layers: of teacher and students.
        teacher_hidden, student_hidden: widths; heads are of size 8.
        batch: samples a step.
        teacher_steps, teacher_rate: of the teacher, on labels, cosine with 6 % warm-up.
        every: steps between the teacher's checkpoints.
        steps: of a student.
        rate: of a student, cosine with 6 % warm-up.
        progressive_every: the teacher's steps between the checkpoints of progressive distillation.
        eval_every: steps between a student's evaluations.
        probe_sentences: held-out sentences of the n-gram probes.
        positions: where the n-gram probes look.
        probe_training, probe_held_out: sentences of the non-terminal probe.
        max_eval: held-out sentences of an evaluation.
        seeds: of the students' initial weights and samples.
        family: bert or gpt2.
        boundary_level: of GPT-2: only tokens that end a non-terminal of this level or a higher one are predicted; 0 is all.
        shot_share: of a 2-shot student's steps, those that the intermediate checkpoint teaches.
    """

    grammar: str
    max_length: int
    layers: int
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
    probe_training: int
    probe_held_out: int
    max_eval: int = 500
    seeds: tuple[int, ...] = (0, 1, 2)
    family: Literal["bert", "gpt2"] = "bert"
    boundary_level: int = 0
    shot_share: float = 0.5

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
            **changes,
        )

    def two_shot(self, checkpoint: int, seed: int) -> RunConfig:
        """A student of one checkpoint, then of the final teacher."""
        return self.student(p_shot([checkpoint], stage=Duration.share(self.shot_share)), seed)

    def ngrams(self) -> NgramSettings:
        """How n-grams are probed: with [MASK] hidden from attention, as in training."""
        from vigreux.probes.ngrams import NgramSettings

        return NgramSettings(positions=self.positions)

    def plain(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)

    def task(self) -> TaskConfig:
        """Masked or next tokens of the grammar's sentences."""
        shared = TaskConfig(data=self.grammar, max_length=self.max_length, max_eval=self.max_eval)
        if self.family == "bert":
            return replace(shared, kind="masked-lm", mask_share=0.3, attend_masked=False)
        return replace(shared, kind="causal-lm", boundary_level=self.boundary_level)

    def _training(self, rate: float, eval_every: int) -> dict[str, Any]:
        return training(self.batch, 125, rate, eval_every, adam_beta2=0.95)


SETTINGS: dict[Preset, GrammarSettings] = {
    "smoke": GrammarSettings(
        grammar="grammar:cfg3b:k", max_length=32, layers=2, teacher_hidden=32, student_hidden=16, batch=16, teacher_steps=120,
        teacher_rate=5e-3, every=10, steps=60, rate=5e-3, progressive_every=40, eval_every=10, probe_sentences=16,
        positions=(6, 12, 18), probe_training=64, probe_held_out=32, max_eval=64,
        seeds=(0,),
    ),
    "laptop": GrammarSettings(
        grammar="grammar:cfg3b:m", max_length=80, layers=4, teacher_hidden=64, student_hidden=32, batch=64, teacher_steps=3000,
        teacher_rate=2e-3, every=50, steps=1200, rate=2e-3, progressive_every=250, eval_every=40, probe_sentences=100,
        positions=(8, 16, 24, 32), probe_training=2048, probe_held_out=512,
    ),
    "paper": GrammarSettings(
        grammar="grammar:cfg3b", max_length=512, layers=4, teacher_hidden=256, student_hidden=64, batch=512, teacher_steps=8000,
        teacher_rate=5e-3, every=100, steps=8000, rate=5e-3, progressive_every=1000, eval_every=100, probe_sentences=200,
        positions=tuple(range(30, 450, 30)), probe_training=10_240, probe_held_out=1024,
    ),
}  # fmt: skip

# GPT-2 on cfg3f, whose rules are more and of unequal lengths, at tokens that end a non-terminal
GPT2_SETTINGS: dict[Preset, GrammarSettings] = {
    "smoke": replace(SETTINGS["smoke"], grammar="grammar:cfg3f:k", family="gpt2", boundary_level=1),
    "laptop": replace(
        SETTINGS["laptop"], grammar="grammar:cfg3f:m", family="gpt2", boundary_level=1, teacher_steps=2000, steps=1000,
    ),
    "paper": replace(SETTINGS["paper"], grammar="grammar:cfg3f", family="gpt2", boundary_level=1, progressive_every=500),
}  # fmt: skip

EXTRACTION = ExtractionConfig(hidden_share=0.3)
