"""What a probe looks at: the models of a run folder, and held-out samples of the task that the run learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
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
from vigreux.tasks.generated.build import generated_grammar
from vigreux.tasks.generated.sentences import Sentences, SentenceSampler
from vigreux.tasks.table import pad, pad_inputs

_STREAM = 2**62  # of a grammar: sentences that neither training nor evaluation sees
_AT_ONCE = 128  # sentences of a forward pass


@dataclass(frozen=True)
class Probed:
    """A model to probe.

    Args:
        name: in tables.
        path: its directory.
        task: what it learned.
        step: of its run; `None` for the finished model.
    """

    name: str
    path: Path
    task: TaskConfig
    step: int | None = None

    def model(self) -> Any:
        """The model with its head, where it trains."""
        return load_model(self.path, self.task.spec.auto_class).to(training_device())  # type: ignore[arg-type]

    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return load_tokenizer(str(self.path))


def probed(run: Path, *, series: bool) -> list[Probed]:
    """The finished model of a run folder, or with `series` every checkpoint that it kept, in order.

    Raises:
        CheckpointError: no run folder, or nothing finished in it.
        ConfigError: a run of another engine.
    """
    folder = RunFolder.open(run)
    task = _task_of(folder)
    if not series:
        if not folder.student.exists():
            raise CheckpointError(
                f"{run}: is not finished; accepted: a finished run, or --series for the checkpoints that are there"
            )
        return [Probed(run.name, folder.student, task)]
    checkpoints = folder.checkpoints()
    if not checkpoints:
        raise CheckpointError(
            f"{run}: no checkpoint is kept; accepted: a run with keep_every, or no --series"
        )
    return [
        Probed(f"{run.name}, step {checkpoint.global_step}", checkpoint.path, task, checkpoint.global_step)
        for checkpoint in checkpoints
    ]


def _task_of(folder: RunFolder) -> TaskConfig:
    given = folder.config().get("task", {})
    if given.get("kind") not in TASK_KINDS:
        raise ConfigError(
            f"{folder.path}: a run on {given.get('kind')!r}; accepted for this probe: a run on a transformer"
        )
    names = {field.name for field in fields(TaskConfig)}
    return TaskConfig(**{name: value for name, value in given.items() if name in names})


# --- samples --------------------------------------------------------------------------------------------------------


def held_out_ids(of: Probed, count: int) -> list[np.ndarray]:
    """Token ids of the first held-out samples, special tokens included, nothing masked."""
    held_out = build_task(of.task, of.tokenizer()).held_out
    return [np.asarray(held_out[i].inputs) for i in range(min(count, len(held_out)))]


@torch.no_grad()
def boundary_batches(of: Probed, batch_size: int = 128) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Predicted ids, labels and boundary levels (N,) of the held-out samples' predictions, for `boundaries.accuracy_by_level`.

    Raises:
        ConfigError: a run on something other than a grammar.
    """
    generated_grammar(of.task)
    task, model = build_task(of.task, of.tokenizer()), of.model().eval()
    view, device = LogitsView(model), training_device()
    # Labels stand where they are predicted: one position before their token in a causal model.
    ahead = int(task.spec.is_causal)
    for first, batch in zip(range(0, len(task.held_out), batch_size), task.eval_batches(batch_size)):
        rows = [task.held_out[first + r].levels for r in range(len(batch["labels"]))]
        levels, _ = pad([np.asarray(row)[ahead:] for row in rows], 0)
        levels = F.pad(levels, (0, batch["labels"].shape[1] - levels.shape[1]))
        positions = task.positions(batch)
        assert positions is not None
        logits = view({name: value.to(device) for name, value in batch.items()}, positions.to(device))
        yield logits.argmax(-1).cpu(), batch["labels"][positions], levels[positions]


def layer_similarity(teacher: Probed, student: Probed, samples: int) -> Tensor:
    """CKA of all layers of two models on held-out samples of the first one's task (see `similarity.compare_layers`).

    Raises:
        ConfigError: the models read different tokens.
    """
    tokenizer = teacher.tokenizer()
    if tokenizer.get_vocab() != student.tokenizer().get_vocab():
        raise ConfigError(
            f"{student.name}: has another vocabulary than {teacher.name}; accepted: runs with one tokenizer"
        )
    held_out, padding = build_task(teacher.task, tokenizer).held_out, padding_id(tokenizer)
    examples = [held_out[i] for i in range(min(samples, len(held_out)))]
    batches = (
        pad_inputs(examples[first : first + _AT_ONCE], padding) for first in range(0, len(examples), _AT_ONCE)
    )
    return compare_layers(teacher.model(), student.model(), batches, device=training_device())


@torch.no_grad()
def nonterminal_data(of: Probed, count: int) -> ProbeData:
    """Last hidden states of `count` sentences of the run's grammar, and each token's ancestors.

    Raises:
        ConfigError: the run is not on a grammar, or its grammar has no levels.
    """
    grammar, tokenizer, model = generated_grammar(of.task), of.tokenizer(), of.model().eval()
    if grammar.depth is None:
        raise ConfigError(
            f"{of.task.data}: the grammar has no levels; accepted: one whose symbols expand to the next level alone"
        )
    view, sentences = (
        cut(model, num_blocks(model)),
        SentenceSampler(grammar, _STREAM).block(0, count, ancestors=True),
    )
    parts = []
    for first in range(0, count, _AT_ONCE):
        rows = range(first, min(first + _AT_ONCE, count))
        ids, mask = pad(
            [_with_ends(sentences, i, of.task.max_length, tokenizer) for i in rows], tokenizer.pad_token_id
        )
        hidden = _hidden(view, ids, mask)
        parts.append(ProbeData(hidden, mask.bool(), _ancestors(sentences, rows, ids.shape[1])))
    return joined(parts)


def _hidden(view: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    device = next(view.parameters()).device
    return view({"input_ids": ids.to(device), "attention_mask": mask.to(device)}).float().cpu()


def _with_ends(sentences: Sentences, index: int, max_length: int, tokenizer: Any) -> np.ndarray:
    tokens = sentences.sentence(index)
    return np.concatenate([[tokenizer.bos_token_id], tokens, [tokenizer.eos_token_id]])[:max_length]


def _ancestors(sentences: Sentences, rows: Sequence[int], length: int) -> Tensor:
    """(rows, length, levels), −100 at special tokens and padding."""
    assert sentences.ancestors is not None
    found = torch.full((len(rows), length, sentences.ancestors.shape[1]), IGNORE)
    for r, i in enumerate(rows):
        own = torch.from_numpy(sentences.ancestors[sentences.span(i)].astype(np.int64))[: length - 1]
        found[r, 1 : 1 + len(own)] = own
    return found
