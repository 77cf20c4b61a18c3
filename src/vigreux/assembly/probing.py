"""The inputs of a probe: the models of a run folder, and held-out samples of the run's task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vigreux.assembly.sources import training_device
from vigreux.config.task_kinds import TASK_KINDS
from vigreux.config.transformer import TaskConfig
from vigreux.errors import CheckpointError, ConfigError
from vigreux.models.layout import num_blocks
from vigreux.models.load import load_model, load_tokenizer
from vigreux.models.views import LogitsView, cut
from vigreux.probes.nonterminals import IGNORE, ProbeData, joined
from vigreux.probes.similarity import compare_layers
from vigreux.run.folder import RunFolder
from vigreux.tasks.build import build_task
from vigreux.tasks.encoding import padding_id
from vigreux.tasks.synthetic.build import generated_grammar
from vigreux.tasks.table import pad, pad_inputs

if TYPE_CHECKING:
    from vigreux.tasks.synthetic.sentences import Sentences

_STREAM = 2**62  # a stream of sentences that neither training nor evaluation reads
_BATCH = 128  # sentences of a forward pass


@dataclass(frozen=True)
class ProbedModel:
    """A model to probe.

    Args:
        name: Its name in tables.
        path: Its directory.
        task: The task that it learned.
        step: The step of its run; `None` for the finished model.
    """

    name: str
    path: Path
    task: TaskConfig
    step: int | None = None

    def model(self) -> Any:
        """The model with its head, on the training device."""
        model = load_model(self.path, self.task.spec.auto_class)
        return model.to(training_device())  # type: ignore[arg-type]

    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return load_tokenizer(str(self.path))


def models_of_run(run: Path, *, series: bool) -> list[ProbedModel]:
    """The finished model of a run folder, or with `series` every checkpoint in it, in order.

    Raises:
        CheckpointError: the path is no run folder, or it holds no finished model.
        ConfigError: the run's student is not a transformer.
    """
    folder = RunFolder.open(run)
    task = _task_of(folder)
    if not series:
        if not folder.student.exists():
            raise CheckpointError(
                f"{run}: is not finished; accepted: a finished run, or --series to probe its checkpoints"
            )
        return [ProbedModel(run.name, folder.student, task)]
    checkpoints = folder.checkpoints()
    if not checkpoints:
        raise CheckpointError(f"{run}: has no checkpoints; accepted: a run with keep_every, or no --series")
    models = []
    for checkpoint in checkpoints:
        step = checkpoint.global_step
        models.append(ProbedModel(f"{run.name}, step {step}", checkpoint.path, task, step))
    return models


def _task_of(folder: RunFolder) -> TaskConfig:
    section = folder.config().get("task", {})
    if section.get("kind") not in TASK_KINDS:
        raise ConfigError(
            f"{folder.path}: a run on {section.get('kind')!r};"
            " accepted for this probe: a run on a transformer"
        )
    # A later version may have written fields that this version does not have.
    names = {field.name for field in fields(TaskConfig)}
    return TaskConfig(**{name: value for name, value in section.items() if name in names})


# --- samples ------------------------------------------------------------------------------------------------


def held_out_ids(probed: ProbedModel, count: int) -> list[np.ndarray]:
    """Token ids of the first held-out samples, special tokens included, nothing masked."""
    held_out = build_task(probed.task, probed.tokenizer()).held_out
    return [np.asarray(held_out[i].inputs) for i in range(min(count, len(held_out)))]


@torch.no_grad()
def boundary_batches(probed: ProbedModel, batch_size: int = 128) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Predictions on the held-out samples, for `boundaries.accuracy_by_level`.

    Yields:
        Predicted ids, labels and boundary levels (N,) of the N predicted positions of a batch.

    Raises:
        ConfigError: the run is not on a grammar.
    """
    generated_grammar(probed.task)
    task = build_task(probed.task, probed.tokenizer())
    view = LogitsView(probed.model().eval())
    device = training_device()
    # A label is stored at the position that predicts it: one before its token in a causal model.
    ahead = int(task.spec.is_causal)
    for first, batch in zip(range(0, len(task.held_out), batch_size), task.eval_batches(batch_size)):
        rows = len(batch["labels"])
        level_rows = [np.asarray(task.held_out[first + row].levels)[ahead:] for row in range(rows)]
        levels, _ = pad(level_rows, 0)
        levels = F.pad(levels, (0, batch["labels"].shape[1] - levels.shape[1]))
        positions = task.positions(batch)
        if positions is None:
            raise ConfigError(f"{probed.name}: its task predicts no tokens; accepted: a language model")
        logits = view({name: value.to(device) for name, value in batch.items()}, positions.to(device))
        yield logits.argmax(-1).cpu(), batch["labels"][positions], levels[positions]


def layer_similarity(teacher: ProbedModel, student: ProbedModel, samples: int) -> Tensor:
    """CKA of all layers of two models on held-out samples of the teacher's task (`compare_layers`).

    Raises:
        ConfigError: the models read different tokens.
    """
    tokenizer = teacher.tokenizer()
    if tokenizer.get_vocab() != student.tokenizer().get_vocab():
        raise ConfigError(
            f"{student.name}: has another vocabulary than {teacher.name}; accepted: runs with one tokenizer"
        )
    held_out = build_task(teacher.task, tokenizer).held_out
    examples = [held_out[i] for i in range(min(samples, len(held_out)))]
    padding = padding_id(tokenizer)
    batches = (
        pad_inputs(examples[first : first + _BATCH], padding) for first in range(0, len(examples), _BATCH)
    )
    return compare_layers(teacher.model(), student.model(), batches, device=training_device())


@torch.no_grad()
def nonterminal_data(probed: ProbedModel, count: int) -> ProbeData:
    """Last hidden states of `count` sentences of the run's grammar, and each token's ancestors.

    Raises:
        ConfigError: the run is not on a grammar, or its grammar has no levels.
    """
    from vigreux.tasks.synthetic.sentences import SentenceSampler  # here: it needs vigreux[lab]

    grammar = generated_grammar(probed.task)
    if grammar.depth is None:
        raise ConfigError(
            f"{probed.task.data}: the grammar has no levels;"
            " accepted: one whose symbols expand to the next level alone"
        )
    tokenizer = probed.tokenizer()
    model = probed.model().eval()
    view = cut(model, num_blocks(model))
    device = next(view.parameters()).device
    sentences = SentenceSampler(grammar, _STREAM).block(0, count, ancestors=True)
    batches = []
    for first in range(0, count, _BATCH):
        rows = range(first, min(first + _BATCH, count))
        ids, mask = pad(
            [_with_ends(sentences, row, probed.task.max_length, tokenizer) for row in rows],
            tokenizer.pad_token_id,
        )
        hidden = view({"input_ids": ids.to(device), "attention_mask": mask.to(device)}).float().cpu()
        batches.append(ProbeData(hidden, mask.bool(), _ancestors(sentences, rows, ids.shape[1])))
    return joined(batches)


def _with_ends(sentences: Sentences, index: int, max_length: int, tokenizer: Any) -> np.ndarray:
    """A sentence between the tokens that begin and end it."""
    tokens = sentences.sentence(index)
    return np.concatenate([[tokenizer.bos_token_id], tokens, [tokenizer.eos_token_id]])[:max_length]


def _ancestors(sentences: Sentences, rows: Sequence[int], length: int) -> Tensor:
    """(rows, length, levels), −100 at special tokens and padding."""
    symbols = sentences.ancestors
    assert symbols is not None  # the sampler was asked for them
    ancestors = torch.full((len(rows), length, symbols.shape[1]), IGNORE)
    for row, index in enumerate(rows):
        of_sentence = torch.from_numpy(symbols[sentences.span(index)].astype(np.int64))[: length - 1]
        ancestors[row, 1 : 1 + len(of_sentence)] = of_sentence  # position 0 is the start token
    return ancestors
