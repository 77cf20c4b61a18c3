"""Two-layer students of one checkpoint and then of the final teacher (C3, C4)."""

from __future__ import annotations

from vigreux.claims.common.parity import ParityScale
from vigreux.config.shared import LossConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum import Duration, Logits
from vigreux.curriculum.recipes import p_shot
from vigreux.curriculum.serialize import to_plain


def two_shot(
    scale: ParityScale, steps: int, checkpoint: int, loss: LossConfig, width: int, seed: int
) -> TwoLayerConfig:
    """Spends `scale.shot` steps on the checkpoint, and the rest of `steps` on the final teacher."""
    stages = p_shot(
        [checkpoint],
        target=Logits(loss.temperature),
        stage=Duration.steps(scale.shot),
        final=Duration.steps(steps - scale.shot),
    )
    return scale.student(to_plain(stages), width, seed, steps, loss=loss)
