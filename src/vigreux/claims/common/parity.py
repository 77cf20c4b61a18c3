"""The settings of the claims about sparse parity (C2 to C5, C7, C12)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vigreux.claims.common.claim import Preset
from vigreux.claims.common.two_layer_scale import TwoLayerScale
from vigreux.config.shared import ExtractionConfig, LossConfig
from vigreux.config.two_layer import BooleanTaskConfig, SGDConfig, TwoLayerConfig

HARD = LossConfig(temperature=1e-4)  # the teacher's distribution becomes a hard label
EXTRACTION = ExtractionConfig(hidden_share=0.2, projection="sparse")


@dataclass(frozen=True, kw_only=True)
class ParityScale(TwoLayerScale):
    """One scale of sparse parity.

    Args:
        steps: Steps of a student. `None` is twice the end of the teacher's phase transition: with many more
            steps a narrow student learns from labels alone.
        short_steps: Steps of a student of the claims about extraction.
        hidden_rate: Learning rate of a hidden stage. It is least squares, which is stable below 2 / (n + 1)
            only.
    """

    steps: int | None
    short_steps: int
    hidden_rate: float = 5e-3

    def task(self) -> BooleanTaskConfig:
        """The parity of k of n coordinates."""
        return BooleanTaskConfig(n=self.n, k=self.k, seed=self.task_seed)

    def student(
        self, curriculum: str | list[dict[str, Any]], width: int, seed: int, steps: int, **changes: Any
    ) -> TwoLayerConfig:
        """The run of a student; `changes` replace fields of the configuration."""
        training = SGDConfig(
            learning_rate=self.rate, hidden_learning_rate=self.hidden_rate, eval_every=self.eval_every
        )
        config = self.student_run(curriculum, width, seed, steps=steps, training=training)
        return replace(config, **changes)


SCALES: dict[Preset, ParityScale] = {
    "smoke": ParityScale(
        n=40,
        k=4,
        teacher_width=2000,
        teacher_steps=120_000,
        teacher_rate=5e-3,
        every=2000,
        widths=(100,),
        steps=120_000,
        rate=1e-2,
        short_steps=60_000,
        shot=20_000,
        progressive_every=6000,
        eval_every=6000,
        seeds=(0,),
        task_seed=1,
    ),
    "laptop": ParityScale(
        n=50,
        k=6,
        teacher_width=3600,
        teacher_steps=1_200_000,
        teacher_rate=1e-2,
        every=20_000,
        widths=(100, 1000),
        steps=None,
        rate=1e-2,
        short_steps=400_000,
        shot=200_000,
        progressive_every=40_000,
        eval_every=20_000,
        task_seed=4,
    ),
    "paper": ParityScale(
        n=100,
        k=6,
        teacher_width=50_000,
        teacher_steps=8_000_000,
        teacher_rate=1e-2,
        every=100_000,
        widths=(100, 1000),
        steps=8_000_000,
        rate=1e-2,
        short_steps=2_000_000,
        shot=1_000_000,
        progressive_every=100_000,
        eval_every=100_000,
    ),
}
