"""The teacher's signal of a stage: the targets of each block of samples, and the kernel call for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vigreux.backends.two_layer.samples import Samples
from vigreux.backends.two_layer.setup import TwoLayerSetup
from vigreux.backends.two_layer.stages import matching_of
from vigreux.backends.two_layer.teachers import LOGITS_LAYER, HiddenTargets, LogitCache
from vigreux.curriculum import Stage
from vigreux.distillation.losses import teacher_probabilities
from vigreux.kernels.sgd import Loss, OnlineSGD
from vigreux.loop.recorder import held_out_loss
from vigreux.models.two_layer import TwoLayer


class Signal:
    """A stage's teacher, and the losses against its answers.

    Args:
        setup: the student, its task and its teachers.
        samples: the training stream and the held-out samples.
        stage: the stage; the setup has checked it.
    """

    def __init__(self, setup: TwoLayerSetup, samples: Samples, stage: Stage) -> None:
        self.setup = setup
        self.samples = samples
        self.matching = matching_of(stage.target, stage.name)
        self.logits: LogitCache | None = None
        self.hidden: HiddenTargets | None = None
        if stage.teacher.kind == "labels":
            return
        folder = self.setup.teacher_folder(stage)
        if self.matching.hidden is not None:
            self.hidden = HiddenTargets(
                TwoLayer.load(folder), self.matching.hidden, self.setup.student.width, self.setup.data_seed
            )
        if self.matching.reads_logits:
            self.logits = LogitCache(folder, samples.stream)

    def fit(self, kernel: OnlineSGD, X: np.ndarray, first: int, rates: np.ndarray) -> np.ndarray:
        """Trains on a block of samples; returns each sample's loss (N,) before its step.

        Args:
            kernel: trains the student's tensors in place.
            X: (N, n) ±1, samples `first` … of the stream.
            first: the number of the first sample.
            rates: (N / batch,) learning rates.
        """
        settings = self.setup.settings
        matching = self.matching
        inputs = torch.from_numpy(X)
        before_relu = settings.match == "before-relu"
        if not matching.trains_output:
            return kernel.fit_hidden(inputs, self._hidden_targets(X, first), rates, before_relu=before_relu)
        loss: Loss = "hinge" if settings.loss == "hinge" else "soft-cross-entropy"
        alpha = 1.0 if matching.logits is None else matching.logits.alpha
        targets = self._output_targets(X, first)
        if matching.hidden is None:
            return kernel.fit_logits(inputs, targets, rates, loss=loss, alpha=alpha)
        return kernel.fit_joint(
            inputs,
            targets,
            self._hidden_targets(X, first),
            rates,
            weight=matching.weight,
            before_relu=before_relu,
            loss=loss,
            alpha=alpha,
        )

    def _hidden_targets(self, X: np.ndarray, first: int) -> Tensor:
        """(N, m) the teacher's layer, projected; logits come from the cache."""
        assert self.hidden is not None, "a hidden target has a teacher"
        if self.hidden.layer != LOGITS_LAYER:
            return self.hidden.block(X)
        assert self.logits is not None, "Matching.reads_logits"
        return self.hidden.project(self.logits.block(first, len(X)).T)

    def _output_targets(self, X: np.ndarray, first: int) -> Tensor:
        """(N, K) class probabilities `α onehot(y) + (1 − α) softmax(f_T / τ)`.

        With one logit (N, 2): the label and f_T.
        """
        labels = torch.from_numpy(self.setup.task.labels(X))
        K = self.setup.student.classes
        dtype = self.setup.student.dtype
        target = self.matching.logits
        if K == 1:
            signs = (2 * labels - 1).to(dtype)[:, None]
            teacher = signs if self.logits is None else self.logits.block(first, len(X)).to(dtype)
            return torch.cat([signs, teacher], dim=1)
        exact = torch.nn.functional.one_hot(labels, K).to(dtype)
        if self.logits is None or target is None:
            return exact
        teacher = self.logits.block(first, len(X)).to(dtype)
        soft = teacher_probabilities(teacher, target.temperature)
        return target.alpha * exact + (1 - target.alpha) * soft

    def plateau_loss(self, evaluation: Mapping[str, Any]) -> float:
        """The stage's held-out loss, which is the loss on the labels for a stage that matches logits.

        For a hidden stage it is the unexplained variance. A joint stage adds ½ ‖a − t‖² times its weight.
        A number that is not finite counts as infinite, because a file stores it as null.
        """
        loss = held_out_loss(evaluation)
        if self.hidden is None:
            return loss
        explained = evaluation["explained_variance"]
        unexplained = 1 - explained if explained is not None and math.isfinite(explained) else math.inf
        if not self.matching.trains_output:
            return unexplained
        return loss + self.matching.weight * 0.5 * self.hidden.variance * unexplained

    def evaluate(self) -> dict[str, float]:
        """Explained variance on the held-out samples, for stages that match a teacher's layer."""
        if self.hidden is None:
            return {}
        X = torch.from_numpy(self.samples.held_out).to(self.setup.student.dtype)
        states = self.setup.student.hidden_states(X, before_relu=self.setup.settings.match == "before-relu")
        error = states - self.hidden.block(self.samples.held_out).to(X.dtype)
        return {"explained_variance": 1 - float(error.square().sum(dim=1).mean()) / self.hidden.variance}
