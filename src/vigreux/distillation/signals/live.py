"""Live teachers: models that run on every batch.

`Teachers` turns the `TeacherRef` of each stage into a live model: the final one, a checkpoint of its run, or
another model. Only one checkpoint is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vigreux.curriculum import Pooling, TeacherRef
from vigreux.distillation.signals.base import ChunkedLogits, Rows, TeacherSignal, VectorSignal
from vigreux.errors import ConfigError, unknown
from vigreux.models.heads import LinearHead, find_head
from vigreux.models.hidden_states import tapped
from vigreux.models.layout import Layout, block_list, find_layout, hidden_size, num_blocks
from vigreux.models.placed import device_of
from vigreux.models.sharding import Spread
from vigreux.models.views import LogitsView, PooledView, cut
from vigreux.tasks.task import Batch, Task


class LiveTeacher:
    """A model that runs on every batch, frozen, in evaluation mode, on its own device.

    Args:
        model: the model, which is changed in place.
        layout: the position of its blocks; by default it is detected when it is needed.
        spread_on: the device on which each of several processes holds a shard of the weights (see `spread_`);
            by default each process holds all weights.
        class_order: for a classifier, the model's id of each class of the run (see `tasks.classes`); by
            default the ids are equal.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout | None = None,
        *,
        spread_on: torch.device | None = None,
        class_order: Sequence[int] | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.class_order = class_order
        # An unrecognised architecture can still teach by its logits. All other signals need its blocks.
        self._layout = layout
        # keys: (hidden layer, with the final norm), or a pooling
        self._views: dict[tuple[int, bool] | Pooling, nn.Module] = {}
        self._head: LinearHead | None = None
        self._looked = False
        self._spread_on = spread_on
        self._spread: Spread | None = None

    @property
    def layout(self) -> Layout:
        """The position of the blocks. Raises `ConfigError` for an unrecognised architecture."""
        if self._layout is None:
            self._layout = find_layout(self.model)
        return self._layout

    @cached_property
    def _whole(self) -> LogitsView:
        """The view of the whole model; it also works for an unrecognised architecture."""
        return LogitsView(self.model, self._layout)

    # --- a source of signals --------------------------------------------------------------------------------

    projected = False

    def rows(self, signal: TeacherSignal, task: Task, batch: Batch, *, before_head: bool = False) -> Rows:
        """See `SignalSource.rows`: the model runs."""
        return signal.ask_model(self, task, batch, before_head=before_head)

    def width(self, signal: VectorSignal) -> int:
        """See `SignalSource.width`."""
        return state_width(
            self.model, self.layout, *signal.teacher_state(num_blocks(self.model, self.layout))
        )

    def logits_by_chunk(self, batch: Batch, device: torch.device) -> Callable[[Rows], ChunkedLogits] | None:
        """See `SignalSource.logits_by_chunk`: the head must be a linear layer on the student's device."""
        head = self.find_head(batch) if device_of(self.model) == device else None
        if head is None:
            return None

        def chunked(rows: Rows) -> ChunkedLogits:
            assert isinstance(rows, Tensor)
            current_head = head.now()
            return lambda chunk: current_head.logits(rows[chunk])

        return chunked

    # --- a model --------------------------------------------------------------------------------------------

    def spread_(self) -> None:
        """Shards the weights over the processes, if `spread_on` names a device.

        After this, all processes must ask for the same signals together.
        """
        if self._spread_on is not None and self._spread is None:
            self._spread = Spread(self.model, block_list(self.model, self.layout), self._spread_on)
            # The first process may already have looked for the head alone. Now all must do it together.
            self._looked = False

    def logits(self, batch: Batch, positions: Tensor | None) -> Tensor:
        """See `Teacher.logits`; the columns are the run's classes."""
        view = self._whole
        logits = self._run(view, batch, positions)
        if self.class_order is None:
            return logits
        return logits[:, torch.as_tensor(self.class_order, device=logits.device)]

    def hidden(self, batch: Batch, layer: int, *, final_norm: bool = True) -> Tensor:
        """See `Teacher.hidden`."""
        key = (layer, final_norm)
        if key not in self._views:
            self._views[key] = cut(self.model, layer, self.layout, final_norm=final_norm)
        return self._run(self._views[key], batch)

    def find_head(self, batch: Batch) -> LinearHead | None:
        """The output head, if it is a linear layer (see `heads.find_head`). The result is cached."""
        if not self._looked:
            self._looked = True
            device = device_of(self.model)
            moved = {name: value.to(device) for name, value in batch.items()}
            self._head = self._ask(find_head, self.model, self._whole, moved)
        return self._head

    def head_input(self, batch: Batch, positions: Tensor) -> Tensor:
        """See `Teacher.head_input`."""
        assert self._head is not None, "see find_head"
        view = self._whole
        head = self._head
        return self._run(
            lambda moved, at: view.head_input(moved, head.module, at, after=head.after), batch, positions
        )

    def several(
        self,
        batch: Batch,
        states: Sequence[tuple[int, bool]],
        end: Literal["logits", "head"] | None,
        positions: Tensor | None,
    ) -> tuple[dict[tuple[int, bool], Tensor], Tensor | None]:
        """Several signals of one forward pass.

        Args:
            batch: a batch of the task.
            states: hidden states (layer, with the final norm).
            end: `logits`; `head`: the output head's input; `None`: nothing runs after the deepest state.
            positions: the positions of `end`.

        Returns:
            The hidden states (B, T, d_T), and the end.
        """
        with tapped(self.model, states, self.layout) as tapped_states:
            last: Tensor | None = None
            if end is None:
                deepest = max(states)
                # A cut view stops before the block whose input is this state, so the tap does not see it.
                tapped_states.setdefault(deepest, self.hidden(batch, deepest[0], final_norm=deepest[1]))
            else:
                if end == "logits":
                    last = self.logits(batch, positions)
                else:
                    last = self._whole_head_input(batch, positions)
        source = next(iter(batch.values())).device
        return {state: rows.to(source) for state, rows in tapped_states.items()}, last

    def _whole_head_input(self, batch: Batch, positions: Tensor | None) -> Tensor:
        """Like `head_input`, but all positions go through the last block, where a tap may read them."""
        assert self._head is not None
        view = self._whole
        module = self._head.module
        return self._run(lambda moved, at: view.head_input(moved, module, at), batch, positions)

    def embedding(self, batch: Batch, pooling: Pooling) -> Tensor:
        """See `Teacher.embedding`."""
        if pooling not in self._views:
            self._views[pooling] = PooledView(self.model, pooling, self.layout)
        return self._run(self._views[pooling], batch)

    # no_grad, not inference_mode: the teacher's outputs are saved for the student's backward pass
    @torch.no_grad()
    def _run(self, view: Callable[..., Tensor], batch: Batch, positions: Tensor | None = None) -> Tensor:
        source = next(iter(batch.values())).device
        device = device_of(self.model)
        moved = {name: value.to(device) for name, value in batch.items()}
        chosen = () if positions is None else (positions.to(device),)
        return self._ask(view, moved, *chosen).to(source)  # type: ignore[no-any-return]

    def _ask(self, view: Callable[..., Any], *args: Any) -> Any:
        return view(*args) if self._spread is None else self._spread(view, *args)


class Teachers:
    """Gives each stage its teacher.

    Args:
        final: the trained teacher; `None` if every stage learns from labels.
        checkpoints: step → directory or hub revision of the teacher's run.
        load: loads a checkpoint or another model, in evaluation mode, on the teacher's device.
    """

    def __init__(
        self,
        final: LiveTeacher | None,
        checkpoints: Mapping[int, str] | None = None,
        load: Callable[[str], LiveTeacher] | None = None,
    ) -> None:
        self.final = final
        self.checkpoints = dict(checkpoints or {})
        self._load = load
        self._together = False

    def together(self) -> None:
        """Shards the teachers that have `spread_on`. All processes call this together."""
        self._together = True
        if self.final is not None:
            self.final.spread_()

    def check(self, ref: TeacherRef, stage: str) -> None:
        """Raises `ConfigError` if there is no such teacher; nothing is loaded."""
        if ref.kind == "final" and self.final is None:
            raise ConfigError(f"stage {stage!r}: learns from a teacher, and none was given")
        if ref.kind == "checkpoint" and ref.step not in self.checkpoints:
            if not self.checkpoints:
                raise ConfigError(
                    f"stage {stage!r}: learns from checkpoint {ref.step}, and no series was given"
                    " (teacher.checkpoints)"
                )
            raise ConfigError(unknown(f"stage {stage!r}: checkpoint step", ref.step, self.checkpoints))
        if ref.kind == "model" and self._load is None:
            raise ConfigError(
                f"stage {stage!r}: learns from the model {ref.model!r}, and there is nothing to load it with"
            )

    def of(self, ref: TeacherRef) -> LiveTeacher | None:
        """The teacher of a stage; `None` for labels. Loads the teacher unless it is the final one."""
        if ref.kind == "labels":
            return None
        if ref.kind == "final":
            return self.final
        assert self._load is not None
        source = self.checkpoints[ref.step] if ref.step is not None else ref.model
        assert source is not None
        teacher = self._load(source)
        if self._together:
            teacher.spread_()
        return teacher


def state_width(model: nn.Module, layout: Layout, depth: int, final_norm: bool) -> int:
    """The width of hidden state `depth`; without the final norm the last state is as wide as the blocks."""
    blocks = num_blocks(model, layout)
    return hidden_size(model, layout, depth if final_norm else min(depth, blocks - 1))
