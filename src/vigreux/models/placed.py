"""Models that accelerate has placed: parts on several devices, or offloaded to the disk or the CPU's memory.

The weights of an offloaded module are on the meta device but while it runs; a hook of accelerate brings them
and takes them away.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from vigreux.errors import ConfigError


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are; of an offloaded model, where it runs."""
    first = torch.device("cpu")
    for parameter in model.parameters():
        if not parameter.is_meta:
            return parameter.device
        first = parameter.device
    for module in model.modules():
        where = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if where is not None:
            return torch.device(where)
    return first


def is_placed(model: nn.Module) -> bool:
    """Whether the model stays where it is: placed by a device map, or quantised."""
    return bool(getattr(model, "hf_device_map", None)) or bool(getattr(model, "is_quantized", False))


def in_memory(module: nn.Module) -> nn.Module:
    """The module itself, or, of one that is offloaded, a copy whose own parameters are in memory."""
    if not any(parameter is not None and parameter.is_meta for parameter in module._parameters.values()):
        return module
    held = copy.copy(module)
    with align_module_device(module, torch.device("cpu")):
        held._parameters = {
            name: None if parameter is None else nn.Parameter(_loaded(parameter), requires_grad=False)
            for name, parameter in module._parameters.items()
        }
    return held


def state_in_memory(module: nn.Module) -> dict[str, Tensor]:
    """The module's state by name, as `state_dict` gives it, with the weights of offloaded parts."""
    state: dict[str, Tensor] = module.state_dict()
    if not any(value.is_meta for value in state.values()):
        return state
    for path, inner in module.named_modules():
        if any(parameter is not None and parameter.is_meta for parameter in inner._parameters.values()):
            held = in_memory(inner)._parameters
            state |= {
                f"{path}.{name}" if path else name: value for name, value in held.items() if value is not None
            }
    return state


def _loaded(value: Tensor) -> Tensor:
    if value.is_meta:
        raise ConfigError(
            "teacher.options.device_map: weights that the student starts from are on no device;"
            " accepted: a device map with offload_folder, or student.init: random"
        )
    return value.detach().clone()


def without_hook_(edited: Any) -> None:
    """Takes accelerate's hook off a shallow copy: its `forward` would run the module that it is a copy of.

    Raises:
        ConfigError: the module has weights of its own that the hook brings.
    """
    if "_old_forward" not in vars(edited):
        return
    if any(parameter is not None and parameter.is_meta for parameter in edited._parameters.values()):
        raise ConfigError(
            f"teacher.options.device_map: {type(edited).__name__} is offloaded as a whole,"
            " and hidden states need its parts; accepted: a device map that names its parts"
        )
    for name in ("forward", "_old_forward", "_hf_hook"):
        vars(edited).pop(name, None)
