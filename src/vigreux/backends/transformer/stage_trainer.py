"""Runs one stage with `transformers.Trainer`, with these changes:

* The loss is a sum over the rows that count, divided by their number over all micro-batches and processes.
* The samples come in the order of the stream, so that skipping them on resume is exact.
* A checkpoint contains the whole student, even if it is sharded. It is valid once its manifest is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.utils import logging

from vigreux.backends.transformer.sharding import ShardedStudent, keep_whole_states, put_, whole
from vigreux.distillation.signals.base import SignalSource
from vigreux.distillation.stage_model import StageModel
from vigreux.errors import TrainingError
from vigreux.run.checkpoints import checkpoint_path

LEARNED_PROJECTION = "learned_projection.safetensors"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class CarriedSchedule:
    """A learning-rate schedule over all stages: this stage starts `offset` steps into `total`."""

    offset: int
    total: int


class StageTrainer(Trainer):
    """Trains a `StageModel` of `student` against `teacher`.

    Args:
        student: the whole student, which checkpoints contain.
        shards: shards the model over the processes; `None` if each process has the whole model.
        teacher: computes the signal of every batch, outside the trained model; `None` for labels.
        carried_states: optimiser states of earlier stages by parameter, if they are carried over.
        carried_schedule: set if one schedule runs over all stages.
        seal: marks a written checkpoint as complete (`Recorder.seal`); called on the first process.
        All other arguments are those of `transformers.Trainer`.
    """

    def __init__(
        self,
        model: StageModel,
        *,
        student: nn.Module,
        teacher: SignalSource | None,
        args: TrainingArguments,
        carried_states: Mapping[nn.Parameter, dict[str, Any]] | None = None,
        carried_schedule: CarriedSchedule | None = None,
        shards: ShardedStudent | None = None,
        seal: Callable[[Path], None],
        **kwargs: Any,
    ) -> None:
        # One process trains on one device. Several devices need several processes, never DataParallel.
        args._n_gpu = min(args.n_gpu, 1)
        super().__init__(model=model, args=args, **kwargs)
        # The loss is divided by the rows of the whole step, so the Trainer must not divide by micro-batches.
        self.model_accepts_loss_kwargs = True
        self.student = student
        self.teacher = teacher
        self.stage_model = model
        self._carried_states = carried_states or {}
        self._carried_schedule = carried_schedule
        self._seal = seal
        self._shards = shards
        self._learned: dict[str, Tensor] = {}  # a learned projection, as it is saved
        if shards is not None:
            shards.shard_(model)
            # The Trainer must not wrap the model again.
            self.is_distributed_loading_by_transformers = True

    # --- data and loss --------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        samples: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(samples)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """The number of rows that count in all micro-batches of this step, over all processes."""
        rows = [self.stage_model.count_rows(batch) for batch in batch_samples]
        total = torch.stack([count.to(device) for count in rows]).sum()
        return self.accelerator.gather(total).sum() if self.args.world_size > 1 else total

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's sum / rows of the step, times the processes because DDP averages gradients."""
        assert not return_outputs
        signal = self.stage_model.signal(self.teacher, inputs)
        total = model(inputs, signal)
        loss = total / num_items_in_batch.clamp(min=1) * self.args.world_size
        mean = self.accelerator.reduce(loss.detach(), "mean")  # of all processes, so that all of them stop
        if not torch.isfinite(mean):
            raise TrainingError(f"the loss is {mean.item()} at step {self.state.global_step + 1}")
        return loss

    def _defer_fsdp_gradient_reduction(self) -> Any:
        """Shards gradients after every micro-batch: whole gradients would cost the memory that was saved."""
        return nullcontext()

    # --- optimiser and schedule -----------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's optimiser, with the states of earlier stages if they are carried over."""
        optimizer = super().create_optimizer(model)
        carried = self._carried_states
        if self._shards is not None:
            keep_whole_states(optimizer)
            carried = self._shards.sharded_states(carried)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in carried and parameter not in optimizer.state:
                    optimizer.state[parameter] = carried[parameter]
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The Trainer's schedule over this stage, or this stage's section of one schedule over all stages."""
        carried = self._carried_schedule
        if carried is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        # The rate must be a function of the step. Schedules that need the Trainer's evaluation are refused.
        full_schedule: Any = super().create_scheduler(carried.total, optimizer)
        optimizer = optimizer or self.optimizer
        rates: list[Callable[[int], float]] = [
            _shifted(rate, carried.offset) for rate in full_schedule.lr_lambdas
        ]
        self.lr_scheduler = LambdaLR(getattr(optimizer, "optimizer", optimizer), rates)
        return self.lr_scheduler

    def optimizer_states(self) -> dict[nn.Parameter, dict[str, Any]]:
        """The optimiser's state of each student parameter, for the next stage. All processes call it."""
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)
        if self._shards is not None:
            return self._shards.whole_states(optimizer)
        return {
            parameter: optimizer.state[parameter]
            for parameter in self.student.parameters()
            if parameter in optimizer.state
        }

    # --- checkpoints ----------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._shards is not None:
            self._shards.gather_()
        if isinstance(self.stage_model.projection, nn.Module):
            self._learned = {
                name: whole(value) for name, value in self.stage_model.projection.named_parameters()
            }
        saved = (*self.student.parameters(), *self._learned.values())
        if not all(weights.isfinite().all() for weights in saved):
            raise TrainingError(f"a weight is not finite after step {self.state.global_step}")
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._seal(checkpoint_path(Path(str(self.args.output_dir)), self.state.global_step))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:  # the Trainer asks every process
            return
        directory = Path(output_dir or str(self.args.output_dir))
        save_student(self.student, directory, self.processing_class)
        if self._learned:
            save_file(self._learned, directory / LEARNED_PROJECTION)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._shards is not None and not self.args.should_save:
            # Every process takes part in gathering the states. Only the first one saves them.
            self.optimizer.state_dict()  # type: ignore[union-attr]
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        directory = Path(resume_from_checkpoint)
        load_student(self.student, directory)
        if self._shards is not None:
            self._shards.scatter_()
        if isinstance(self.stage_model.projection, nn.Module):
            saved = load_file(directory / LEARNED_PROJECTION)
            for name, parameter in self.stage_model.projection.named_parameters():
                put_(parameter, saved[name])


def _shifted(rate: Callable[[int], float], offset: int) -> Callable[[int], float]:
    return lambda step: rate(step + offset)


def save_student(student: nn.Module, directory: Path, processing_class: Any = None) -> None:
    """Writes the whole student into `directory`: by `save_pretrained`, or a torch module's safetensors."""
    directory.mkdir(parents=True, exist_ok=True)
    if isinstance(student, PreTrainedModel):
        with _no_bars():
            student.save_pretrained(directory)
    else:
        save_model(student, str(directory / WEIGHTS))
    if processing_class is not None:
        processing_class.save_pretrained(directory)


def load_student(student: nn.Module, directory: Path) -> None:
    """Loads the weights that `save_student` wrote into `student`; tied weights stay tied."""
    if isinstance(student, PreTrainedModel):
        student.load_state_dict(open_student(student, directory).state_dict())
    else:
        load_model(student, str(directory / WEIGHTS))


def open_student(student: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """The model that `save_student` wrote of `student`, as `from_pretrained` opens it.

    The names in the file are not always those in memory (GPT-NeoX's head, ViT's blocks).
    """
    with _no_bars():
        saved: PreTrainedModel = type(student).from_pretrained(directory, dtype=student.dtype)
    return saved


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hides transformers' progress bars, because a stage has its own bar."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
