"""The settings that the claims about parity share, and how a run is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vigreux.claims.common.claim import Preset
from vigreux.config.shared import BudgetConfig, ExtractionConfig, LossConfig
from vigreux.config.two_layer import BooleanTaskConfig, NetworkConfig, SGDConfig, TwoLayerConfig
from vigreux.run.folder import RunFolder

CHANCE, LEARNED = (
    0.55,
    0.99,
)  # accuracies at or below, at or above which a student counts as not having, having learned


@dataclass(frozen=True)
class ParitySettings:
    """One scale of the parity experiments.

    Args:
        n, k: of the task, whose support is drawn by `task_seed`.
        teacher_width, teacher_steps, teacher_rate: the teacher, at a constant rate.
        every: steps between the teacher's checkpoints.
        widths: of the students.
        steps: of a student; `None` is twice the end of the teacher's phase transition: a narrow student that gets many more
            steps learns from labels alone.
        rate: of a student, cosine with 6 % warm-up.
        short_steps: budget of the extraction experiment.
        shot: steps that a 2-shot student spends on the intermediate checkpoint.
        progressive_every: the teacher's steps between the checkpoints of progressive distillation.
        eval_every: steps between evaluations of a student.
        seeds: of the students' initial weights.
        task_seed: draws the support; the laptop's settings were chosen on seeds 0 to 3.
        hidden_rate: of a hidden stage, which is least squares: it must stay well below 2 / (n + 1).
    """

    n: int
    k: int
    teacher_width: int
    teacher_steps: int
    teacher_rate: float
    every: int
    widths: tuple[int, ...]
    steps: int | None
    rate: float
    short_steps: int
    shot: int
    progressive_every: int
    eval_every: int
    seeds: tuple[int, ...] = (0, 1, 2)
    task_seed: int = 0
    hidden_rate: float = 5e-3

    def teacher(self) -> TwoLayerConfig:
        """The teacher's run. Its samples are not the students'."""
        return TwoLayerConfig(
            task=BooleanTaskConfig(n=self.n, k=self.k, seed=self.task_seed, data_seed=100),
            student=NetworkConfig(width=self.teacher_width),
            budget=BudgetConfig(steps=self.teacher_steps),
            training=SGDConfig(
                learning_rate=self.teacher_rate,
                decay="constant",
                eval_every=self.every // 2,
                save_every=self.every,
            ),
        )

    def student(
        self, curriculum: str | list[dict[str, Any]], width: int, seed: int, steps: int, **changes: Any
    ) -> TwoLayerConfig:
        """A student's run; `changes` replace fields of the configuration."""
        config = TwoLayerConfig(
            task=BooleanTaskConfig(n=self.n, k=self.k, seed=self.task_seed),
            student=NetworkConfig(width=width),
            curriculum=curriculum,
            budget=BudgetConfig(steps=steps),
            training=SGDConfig(
                learning_rate=self.rate, hidden_learning_rate=self.hidden_rate, eval_every=self.eval_every
            ),
            seed=seed,
        )
        return replace(config, **changes)

    def plain(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


SETTINGS: dict[Preset, ParitySettings] = {
    "smoke": ParitySettings(
        n=40, k=4, teacher_width=2000, teacher_steps=120_000, teacher_rate=5e-3, every=2000, widths=(100,),
        steps=120_000, rate=1e-2, short_steps=60_000, shot=20_000, progressive_every=6000, eval_every=6000, seeds=(0,), task_seed=1,
    ),
    "laptop": ParitySettings(
        n=50, k=6, teacher_width=3600, teacher_steps=1_200_000, teacher_rate=1e-2, every=20_000, widths=(100, 1000),
        steps=None, rate=1e-2, short_steps=400_000, shot=200_000, progressive_every=40_000, eval_every=20_000, task_seed=4,
    ),
    "paper": ParitySettings(
        n=100, k=6, teacher_width=50_000, teacher_steps=8_000_000, teacher_rate=1e-2, every=100_000, widths=(100, 1000),
        steps=8_000_000, rate=1e-2, short_steps=2_000_000, shot=1_000_000, progressive_every=100_000, eval_every=100_000,
    ),
}  # fmt: skip

HARD = LossConfig(temperature=1e-4)  # the teacher's distribution as a hard label
EXTRACTION = ExtractionConfig(hidden_share=0.2, projection="sparse")


def curve(run: RunFolder) -> dict[str, list[float]]:
    """Held-out accuracy after so many steps."""
    records = run.metrics("eval")
    return {"steps": [r["global_step"] for r in records], "accuracy": [r["accuracy"] for r in records]}


def final_accuracy(run: RunFolder) -> float:
    """Held-out accuracy at the end."""
    summary = run.summary()
    assert summary is not None
    return summary.metrics["accuracy"]


def cost(run: RunFolder) -> dict[str, float]:
    """What a result quotes of a run's cost."""
    summary = run.summary()
    assert summary is not None
    return {"seconds": round(summary.seconds, 1), "flops": summary.flops, "bytes_kept": summary.bytes_kept}


def all_learned(accuracies: Sequence[float]) -> bool:
    """Every seed at 99 % or more."""
    return min(accuracies) >= LEARNED


def all_at_chance(accuracies: Sequence[float]) -> bool:
    """Every seed at 55 % or less."""
    return max(accuracies) <= CHANCE
