"""A student sharded over the processes (FSDP2).

Each process trains its shard of the weights, gradients and optimiser states. Every process also has the whole
student, for evaluation and checkpoints. A copy of the student is sharded, and is gathered into the whole
student when needed. So a checkpoint does not depend on the number of processes, and any number of processes
can resume from it.
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


class ShardedStudent:
    """The sharded copy of a student that a stage trains, with methods to gather it into the whole student.

    Args:
        setup: the run's setup. Its student stays whole.
    """

    def __init__(self, setup: Setup) -> None:
        self.student = setup.student
        self._copy = copy.deepcopy(setup.student)
        self._layout = setup.layout  # FSDP2 gathers a block when it runs, and all other weights once per step
        self.setup = dataclasses.replace(setup, student=self._copy)  # its stage models are views of the copy
        # parameters of the whole student, and the same parameters of the sharded copy
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []

    def shard_(self, model: StageModel) -> None:
        """Shards a stage's model (of `self.setup`) over all processes, in place."""
        copy_names = {id(parameter): name for name, parameter in self._copy.named_parameters()}
        student_names = {  # name in the stage's model → name in the student
            name: copy_names[id(parameter)]
            for name, parameter in model.named_parameters()
            if id(parameter) in copy_names
        }
        modules = set(model.modules())
        units = [block for block in block_list(self._copy, self._layout) if block in modules]
        if isinstance(model.projection, nn.Module):  # a unit of its own, as it may have another dtype
            units.append(model.projection)
        spread_(model, units, next(model.parameters()).device)
        # Recorded before a forward pass, which replaces the parameters by gathered ones that FSDP2 discards.
        self._pairs = [
            (self.student.get_parameter(student_names[name]), parameter)
            for name, parameter in model.named_parameters()
            if name in student_names
        ]

    @torch.no_grad()
    def gather_(self) -> None:
        """Copies the trained weights into the whole student. All processes call it."""
        for parameter, sharded in self._pairs:
            parameter.copy_(whole(sharded))
        for buffer, trained in zip(self.student.buffers(), self._copy.buffers()):
            buffer.copy_(trained)

    @torch.no_grad()
    def scatter_(self) -> None:
        """Copies the weights of the whole student into the sharded copy."""
        for parameter, sharded in self._pairs:
            put_(sharded, parameter)
        for buffer, trained in zip(self.student.buffers(), self._copy.buffers()):
            trained.copy_(buffer)

    def whole_states(self, optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, State]:
        """The optimiser's states by the whole student's parameters. All processes call it."""
        states = {}
        for parameter, sharded in self._pairs:
            if sharded in optimizer.state:
                states[parameter] = whole_state(optimizer.state[sharded])
        return states

    def sharded_states(self, states: Mapping[nn.Parameter, State]) -> dict[nn.Parameter, State]:
        """The inverse of `whole_states`: states by the parameters of the sharded copy."""
        return {
            sharded: sharded_state(states[parameter], sharded)
            for parameter, sharded in self._pairs
            if parameter in states
        }


def keep_whole_states(optimizer: torch.optim.Optimizer) -> None:
    """Makes `state_dict` return and `load_state_dict` accept whole tensors. All processes call both."""

    def gather(optimizer: torch.optim.Optimizer, state_dict: State) -> State:
        states = {number: whole_state(state) for number, state in state_dict["state"].items()}
        return state_dict | {"state": states}

    def shard(optimizer: torch.optim.Optimizer, state_dict: State) -> State:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        states = {
            number: sharded_state(state, parameters[number]) for number, state in state_dict["state"].items()
        }
        return state_dict | {"state": states}

    optimizer.register_state_dict_post_hook(gather)
    optimizer.register_load_state_dict_pre_hook(shard)


def whole_state(state: State) -> State:
    """A parameter's state with whole tensors."""
    return {name: whole(value) if isinstance(value, Tensor) else value for name, value in state.items()}


def sharded_state(state: State, parameter: Tensor) -> State:
    """A parameter's state, sharded like the parameter. Values of another shape, such as the step, stay."""
    sharded = dict(state)
    for name, value in state.items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            sharded[name] = _shard_like(value, parameter)
    return sharded


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor of a tensor that may be sharded. All processes call it."""
    value: Any = tensor.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


def put_(parameter: Tensor, value: Tensor) -> None:
    """Copies a whole tensor into a parameter that may be sharded."""
    parameter.detach().copy_(_shard_like(value.detach(), parameter))


def _shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor):
        return value
    # Every process has the whole tensor, so nothing is sent.
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
