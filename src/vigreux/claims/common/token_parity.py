"""The settings that the claims about Transformers on sparse parity share (arXiv 2410.05464)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.small_transformers import student_run, teacher_run, training
from vigreux.claims.common.transition import checkpoints
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import RunConfig, TaskConfig, TeachConfig
from vigreux.curriculum import Curriculum, Duration
from vigreux.curriculum.recipes import p_shot
from vigreux.run.folder import RunFolder
from vigreux.selection import Curve, find_transitions, select_checkpoints


@dataclass(frozen=True)
class TokenParitySettings:
    """One scale: GPT-2 blocks, the bits as tokens, the class read at the last position.

    Args:
        n, k: of the task, whose support is drawn by `task_seed`.
        layers: of teacher and students.
        teacher_hidden, student_hidden: widths; heads are of size 8.
        batch: samples a step.
        teacher_steps, teacher_rate: of the teacher, on labels, at a constant rate after the warm-up.
        every: steps between the teacher's checkpoints.
        steps: of a student.
        rate: of a student, cosine with 6 % warm-up.
        shot_share: of a 2-shot student's steps, those that the intermediate checkpoint teaches.
        progressive_every: the teacher's steps between the checkpoints of progressive distillation.
        eval_every: steps between evaluations.
        max_eval: held-out inputs of an evaluation.
        seeds: of the students' initial weights and samples.
        task_seed: draws the support.
    """

    n: int
    k: int
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
    max_eval: int = 2000
    seeds: tuple[int, ...] = (0, 1, 2)
    task_seed: int = 0
    shot_share: float = 0.5

    def teacher(self) -> TeachConfig:
        """The teacher's run."""
        return teacher_run(
            self._task(),
            "gpt2",
            self.layers,
            self.teacher_hidden,
            steps=self.teacher_steps,
            keep_every=self.every,
            training=self._training(
                self.teacher_rate, self.every // 2, lr_scheduler_type="constant_with_warmup"
            ),
        )

    def student(self, curriculum: str | Curriculum, seed: int, **changes: Any) -> RunConfig:
        """A student's run; `changes` replace fields of the configuration."""
        return student_run(
            self._task(),
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

    def plain(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)

    def _task(self) -> TaskConfig:
        data = f"parity:n={self.n},k={self.k},seed={self.task_seed}"
        return TaskConfig(kind="classification", data=data, max_length=self.n + 1, max_eval=self.max_eval)

    def _training(self, rate: float, eval_every: int, **more: Any) -> dict[str, Any]:
        return training(self.batch, 500, rate, eval_every, **more)


SETTINGS: dict[Preset, TokenParitySettings] = {
    "smoke": TokenParitySettings(
        n=10, k=2, layers=2, teacher_hidden=32, student_hidden=8, batch=64, teacher_steps=120, teacher_rate=1e-3, every=10,
        steps=60, rate=1e-3, progressive_every=40, eval_every=20, max_eval=500, seeds=(0,),
    ),
    "laptop": TokenParitySettings(
        n=20, k=3, layers=2, teacher_hidden=64, student_hidden=8, batch=128, teacher_steps=600, teacher_rate=1e-3, every=10,
        steps=1500, rate=1e-3, progressive_every=20, eval_every=25,
    ),
    "paper": TokenParitySettings(
        n=100, k=6, layers=2, teacher_hidden=256, student_hidden=32, batch=32, teacher_steps=250_000, teacher_rate=3e-4, every=2500,
        steps=250_000, rate=1e-4, progressive_every=5000, eval_every=1250,
    ),
}  # fmt: skip

EXTRACTION = ExtractionConfig(hidden_share=0.3)


def transition(teacher: RunFolder) -> dict[str, Any]:
    """The teacher's rise [start, end], and the kept checkpoint that `vigreux select` takes inside it.

    Raises:
        ConfigError: its accuracy has no phase transition, or no checkpoint lies inside it.
    """
    records = teacher.metrics("eval")
    accuracy = Curve.of([r["global_step"] for r in records], [r["accuracy"] for r in records], rises=True)
    chosen = select_checkpoints(accuracy, checkpoints(teacher), shots=2)[0]
    found = find_transitions(accuracy)
    return {"selected": chosen.step, "start": min(t.start for t in found), "end": max(t.end for t in found)}
