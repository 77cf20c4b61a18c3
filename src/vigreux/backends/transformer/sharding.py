"""A student sharded over the processes (FSDP2).

Each process trains with its shard of the weights, the gradients and the optimiser states. Every process also
holds the whole student, for evaluation and checkpoints. A copy of it is sharded, and gathered into the whole
student when that is needed. So a checkpoint does not depend on the number of processes, and any number can
resume from it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from vigreux.distillation.stage_model import StageModel
from vigreux.models.layout import block_list
from vigreux.models.sharding import spread_

if TYPE_CHECKING:
    from vigreux.backends.transformer.setup import Setup

State = dict[str, Any]  # an optimiser's, of one parameter


class Shards:
    """The copy of a student that a stage trains, spread over the processes.

    Args:
        setup: whose student stays whole.
    """

    def __init__(self, setup: Setup) -> None:
        self.student = setup.student
        self._copy = copy.deepcopy(setup.student)
        self._layout = setup.layout  # each block is gathered by itself when it runs, the rest once a step
        self.setup = dataclasses.replace(setup, student=self._copy)  # its stage models are views of the copy
        self._pairs: list[
            tuple[nn.Parameter, nn.Parameter]
        ] = []  # of the whole student and of the spread copy

    def spread_(self, model: StageModel) -> None:
        """Spreads a stage's model (of `self.setup`) over all processes, in place."""
        ids = {id(parameter): name for name, parameter in self._copy.named_parameters()}
        names = {
            name: ids[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in ids
        }
        held = set(model.modules())
        units = [block for block in block_list(self._copy, self._layout) if block in held]
        if isinstance(model.projection, nn.Module):  # by itself, as it may have another dtype
            units.append(model.projection)
        spread_(model, units, next(model.parameters()).device)
        # kept from here: after a forward pass the model names whole parameters, which are thrown away
        self._pairs = [
            (self.student.get_parameter(names[n]), spread)
            for n, spread in model.named_parameters()
            if n in names
        ]

    @torch.no_grad()
    def gather_(self) -> None:
        """Copies the trained weights into the whole student. All processes call it."""
        for own, spread in self._pairs:
            own.copy_(whole(spread))
        for ours, trained in zip(self.student.buffers(), self._copy.buffers()):
            ours.copy_(trained)

    @torch.no_grad()
    def scatter_(self) -> None:
        """Gives the spread copy the weights of the whole student."""
        for own, spread in self._pairs:
            put_(spread, own)
        for ours, trained in zip(self.student.buffers(), self._copy.buffers()):
            trained.copy_(ours)

    def states(self, optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, State]:
        """The optimiser's whole state of each of the student's parameters; to be called by all processes."""
        return {
            own: whole_state(optimizer.state[spread])
            for own, spread in self._pairs
            if spread in optimizer.state
        }

    def spread_states(self, states: Mapping[nn.Parameter, State]) -> dict[nn.Parameter, State]:
        """Of the whole student's parameters → of those of the spread copy."""
        return {spread: spread_state(states[own], spread) for own, spread in self._pairs if own in states}


def keep_whole_states(optimizer: torch.optim.Optimizer) -> None:
    """Makes `state_dict` return whole tensors, and `load_state_dict` take them. All processes call both."""

    def gather(optimizer: torch.optim.Optimizer, plain: State) -> State:
        return plain | {"state": {number: whole_state(state) for number, state in plain["state"].items()}}

    def spread(optimizer: torch.optim.Optimizer, plain: State) -> State:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return plain | {
            "state": {
                number: spread_state(state, parameters[number]) for number, state in plain["state"].items()
            }
        }

    optimizer.register_state_dict_post_hook(gather)
    optimizer.register_load_state_dict_pre_hook(spread)


def whole_state(state: State) -> State:
    """A parameter's state with whole tensors."""
    return {name: whole(value) if isinstance(value, Tensor) else value for name, value in state.items()}


def spread_state(state: State, parameter: Tensor) -> State:
    """A parameter's state, spread as the parameter is; what has another shape (a number of steps) is left."""
    alike = {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    }
    return state | {name: _spread_as(value, parameter) for name, value in alike.items()}


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a part; all of them must ask for it."""
    held: Any = tensor.detach()
    return held.full_tensor() if isinstance(held, DTensor) else held


def put_(parameter: Tensor, value: Tensor) -> None:
    """Copies a whole tensor to where each process may hold a part."""
    parameter.detach().copy_(_spread_as(value.detach(), parameter))


def _spread_as(value: Tensor, parameter: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor):
        return value
    # every process has the whole: no communication
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
