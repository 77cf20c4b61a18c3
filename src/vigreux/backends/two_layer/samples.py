"""The samples of a run: the training stream and the held-out samples."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from vigreux.backends.two_layer.setup import TwoLayerSetup
from vigreux.backends.two_layer.teachers import forward
from vigreux.models.two_layer import TwoLayer
from vigreux.tasks.synthetic.bits import BitStream


class Samples:
    """Training and held-out samples of a setup's task; both are functions of its `data_seed`."""

    def __init__(self, setup: TwoLayerSetup) -> None:
        self.setup = setup
        self.stream = BitStream(setup.task.n, setup.data_seed)

    @cached_property
    def held_out(self) -> np.ndarray:
        """(eval_samples, n) ±1, from a stream of their own."""
        return BitStream(self.setup.task.n, self.setup.data_seed, "eval").block(0, self.setup.eval_samples)

    @cached_property
    def held_out_labels(self) -> np.ndarray:
        """(eval_samples,) classes."""
        return self.setup.task.labels(self.held_out)

    def evaluate(self, network: TwoLayer) -> dict[str, float]:
        """Loss (cross-entropy, or the hinge) and accuracy of a network on the held-out samples."""
        logits = forward(network, self.held_out)
        labels = torch.from_numpy(self.held_out_labels)
        if network.classes == 1:
            margins = logits[:, 0] * (2 * labels - 1).to(logits.dtype)
            return {
                "loss": float((1 - margins).clamp(min=0).mean()),
                "accuracy": float((margins > 0).double().mean()),
            }
        if self.setup.settings.loss == "hinge":
            loss = torch.nn.functional.multi_margin_loss(logits, labels)
        else:
            loss = torch.nn.functional.cross_entropy(logits, labels)
        return {
            "loss": float(loss),
            "accuracy": float((logits.argmax(1) == labels).double().mean()),
        }
