"""Calls a model with the entries of a batch that its `forward` accepts, without labels or a cache."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

Batch = dict[str, Tensor]


def inputs_of(module: nn.Module, batch: Batch) -> Batch:
    """The entries of a batch that a model's `forward` accepts, without the labels."""
    return _named_inputs(inspect.signature(type(module).forward).parameters.keys(), batch)


def first_tensor(output: Any) -> Tensor:
    """The output of a module if it is a tensor, otherwise the first entry of the output."""
    return output if isinstance(output, Tensor) else output[0]


def _named_inputs(names: Collection[str], batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name in names and name != "labels"}


class Recomputing:
    """Passes requests to recompute activations on to `module`, under both names that `Trainer` uses."""

    module: Any

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.activation_checkpointing_enable`."""
        self.module.activation_checkpointing_enable(*args, **kwargs)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.gradient_checkpointing_enable`."""
        self.module.gradient_checkpointing_enable(*args, **kwargs)


class CalledModel(Recomputing, nn.Module):
    """A module that is called with whole batches.

    Args:
        module: A transformers model, called with the inputs that its `forward` accepts, or a torch module,
            called as `module(batch["inputs"])`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        parameters = inspect.signature(type(module).forward).parameters
        self._is_plain = not isinstance(module, PreTrainedModel)
        self.input_names = frozenset(parameters)
        self._constants = {"use_cache": False} if "use_cache" in parameters else {}

    def call(self, batch: Batch) -> Any:
        """The module's output on a batch."""
        if self._is_plain:
            return self.module(batch["inputs"])
        return self.module(**_named_inputs(self.input_names, batch), **self._constants)
