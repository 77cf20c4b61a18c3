"""One-shot distillation as each library does it: a function of a case that gives the loss of one step.

Each contender uses the loss of its library. For Liger and for TRL's kernel we added position selection before
the head, which those libraries lack; this favours them. Models are called as the libraries call them: the
whole model with all logits, unless the loss takes hidden states.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import torch
from distill_cases import Case
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Case], Tensor]


def plain_torch() -> Loss:
    """All logits, log-softmax and softmax of the rows that count, KL."""

    def loss(case: Case) -> Tensor:
        student, teacher = _logits(case)
        return F.kl_div(F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="batchmean")

    return loss


def torchdistill() -> Loss:
    """`KDLoss` of the rows that count (on a sequence its softmax would go over the positions)."""
    for name in (
        "torchvision",
        "torchvision.ops",
        "torchvision.models",
        "torchvision.transforms",
        "torchvision.datasets",
    ):
        sys.modules.setdefault(
            name, MagicMock()
        )  # torchvision breaks transformers beside a CPU torch; KDLoss does not need it
    from torchdistill.losses.mid_level import KDLoss

    criterion = KDLoss("head", "output", "head", "output", temperature=1.0, alpha=0.0)

    def loss(case: Case) -> Tensor:
        student, teacher = _logits(case)
        return criterion({"head": {"output": student}}, {"head": {"output": teacher}})

    return loss


def trl_gkd() -> Loss:
    """`GKDTrainer.generalized_jsd_loss` with β = 0: the forward KL."""
    from trl.experimental.gkd import GKDTrainer

    def loss(case: Case) -> Tensor:
        with torch.no_grad():
            teacher = case.teacher(**case.inputs).logits
        return GKDTrainer.generalized_jsd_loss(
            case.student(**case.inputs).logits, teacher, case.batch["labels"], beta=0.0
        )

    return loss


def trl_chunked() -> Loss:
    """The kernel of `DistillationTrainer`, from hidden states."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    def loss(case: Case) -> Tensor:
        (student, *student_head), (teacher, *teacher_head) = _hidden(case)
        ones = torch.ones(1, len(student), dtype=torch.long)
        return _chunked_divergence_loss(
            student[None],
            teacher[None],
            student_head[0],
            teacher_head[0],
            ones,
            0.0,
            student_lm_head_bias=student_head[1],
            teacher_lm_head_bias=teacher_head[1],
        )[0]

    return loss


def liger() -> Loss:
    """`LigerFusedLinearJSDLoss` with β = 0, from hidden states."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    criterion = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=False)

    def loss(case: Case) -> Tensor:
        (student, *student_head), (teacher, *teacher_head) = _hidden(case)
        labels = case.batch["labels"][case.rows]
        return criterion(
            student, student_head[0], teacher, teacher_head[0], labels, student_head[1], teacher_head[1]
        )

    return loss


def textbrewer() -> Loss:
    """`kd_ce_loss` by its `GeneralDistiller` (adaptors name the logits and their mask)."""
    import textbrewer as library

    distiller: list[Any] = []

    def adaptor(batch: Any, outputs: Any) -> dict[str, Any]:
        mask = () if distiller[1].kind == "classification" else (distiller[1].rows.long(),)
        return {"logits": (outputs.logits,)} | ({"logits_mask": mask} if mask else {})

    def loss(case: Case) -> Tensor:
        if not distiller:
            settings = library.DistillationConfig(
                temperature=1, hard_label_weight=0, kd_loss_weight=1, kd_loss_type="ce"
            )
            training = library.TrainingConfig(device="cpu", log_dir=None, output_dir="/tmp/textbrewer")
            made = library.GeneralDistiller(training, settings, case.teacher, case.student, adaptor, adaptor)
            distiller.extend((made, case))
        return distiller[0].train_on_batch(case.inputs, {})[0]

    return loss


def modelopt() -> Loss:
    """`mtd.convert` with `LogitsDistillationLoss`."""
    import modelopt.torch.distill as library

    made: list[Any] = []

    class RowsLoss(library.LogitsDistillationLoss):
        """Of the rows that count: the library's loss takes whatever logits it is given."""

        def forward(self, student: Any, teacher: Any) -> Tensor:
            rows = ... if made[1].kind == "classification" else made[1].rows
            return super().forward(student.logits[rows], teacher.logits[rows])

    def loss(case: Case) -> Tensor:
        if not made:
            config = {"teacher_model": case.teacher, "criterion": RowsLoss(reduction="batchmean")}
            made.extend((library.convert(case.student, mode=[("kd_loss", config)]), case))
        outputs = made[0](**case.inputs)
        return made[0].compute_kd_loss(student_loss=None) if outputs is not None else outputs

    return loss


def vigreux() -> Loss:
    """The stage model of one-shot distillation."""
    from vigreux.curriculum import Duration, Logits, Stage, TeacherRef
    from vigreux.distillation.stage_model import StageModel

    made: list[Any] = []

    def loss(case: Case) -> Tensor:
        if not made:
            made.extend(stage_of(case, Stage("final", TeacherRef.final(), Logits(), None, Duration.steps(1))))
        model: StageModel = made[0]
        signal = model.signal(made[1], case.batch)
        rows = case.rows.sum() if case.kind != "classification" else len(case.batch["labels"])
        return model(case.batch, signal) / rows

    return loss


def stage_of(case: Case, stage: Any) -> tuple[Any, Any]:
    """A stage's model and its teacher, as the engine builds them."""
    from vigreux.backends.transformer.setup import Setup
    from vigreux.backends.transformer.stage_builder import build_stage
    from vigreux.distillation.signals.live import LiveTeacher, Teachers

    setup = Setup(
        _task(case), case.student, Teachers(LiveTeacher(case.teacher)), (stage,), training={"use_cpu": True}
    )
    return build_stage(setup, stage)


def _task(case: Case) -> Any:
    """A task whose samples are the rows of the batch."""
    from vigreux.tasks.task import Task

    samples = [
        {name: value[i] for name, value in case.batch.items()} for i in range(len(case.batch["input_ids"]))
    ]

    def collate(drawn: Any) -> dict[str, Tensor]:
        examples = [sample.example for sample in drawn]
        return {name: torch.stack([example[name] for example in examples]) for name in case.batch}

    length = case.batch["input_ids"].shape[1]
    return Task(case.kind, samples, samples, collate, length)  # type: ignore[arg-type]


CONTENDERS: dict[str, Callable[[], Loss]] = {
    "plain torch": plain_torch,
    "torchdistill": torchdistill,
    "TRL GKD": trl_gkd,
    "TRL chunked": trl_chunked,
    "Liger": liger,
    "TextBrewer": textbrewer,
    "ModelOpt": modelopt,
    "Vigreux": vigreux,
}
PACKAGES = {
    "plain torch": "torch",
    "torchdistill": "torchdistill",
    "TRL GKD": "trl",
    "TRL chunked": "trl",
    "Liger": "liger-kernel",
    "TextBrewer": "textbrewer",
    "ModelOpt": "nvidia-modelopt",
    "Vigreux": "vigreux",
}
CAUSAL_ONLY = ("TRL GKD",)
LANGUAGE_ONLY = ("TRL GKD", "TRL chunked", "Liger")


def _logits(case: Case) -> tuple[Tensor, Tensor]:
    """(N, C) of student and teacher at the rows that count; the models compute all of them."""
    with torch.no_grad():
        teacher = case.teacher(**case.inputs).logits
    student = case.student(**case.inputs).logits
    return (student, teacher) if case.kind == "classification" else (student[case.rows], teacher[case.rows])


def _hidden(case: Case) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """For student and teacher: (N, d) head inputs at the rows that count, the head's weight and its bias."""

    def of(model: Any) -> tuple[Any, ...]:
        head = model.get_output_embeddings()
        rows = model.base_model(**case.inputs).last_hidden_state[case.rows]
        return (
            (rows if case.kind == "causal-lm" else model.cls.predictions.transform(rows)),
            head.weight,
            head.bias,
        )

    with torch.no_grad():
        teacher = of(case.teacher)
    return of(case.student), teacher
