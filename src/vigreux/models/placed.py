"""Models that accelerate has placed on several devices, or offloaded to disk or CPU memory.

The weights of an offloaded module are on the meta device except while it runs. A hook of accelerate loads and
removes them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from vigreux.errors import ConfigError


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's weights; for an offloaded model, the device that it runs on."""
    first = torch.device("cpu")
    for parameter in model.parameters():
        if not parameter.is_meta:
            return parameter.device
        first = parameter.device
    for module in model.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return first


def is_placed(model: nn.Module) -> bool:
    """Whether the model cannot be moved, because a device map placed it or it is quantised."""
    return bool(getattr(model, "hf_device_map", None)) or bool(getattr(model, "is_quantized", False))


def in_memory(module: nn.Module) -> nn.Module:
    """The module; if it is offloaded, a shallow copy whose direct parameters are in memory."""
    if not any(parameter is not None and parameter.is_meta for parameter in module._parameters.values()):
        return module
    loaded = copy.copy(module)
    with align_module_device(module, torch.device("cpu")):
        loaded._parameters = {
            name: None if parameter is None else nn.Parameter(_loaded(parameter), requires_grad=False)
            for name, parameter in module._parameters.items()
        }
    return loaded


def state_in_memory(module: nn.Module) -> dict[str, Tensor]:
    """The `state_dict` of a module, including the weights of offloaded submodules."""
    state: dict[str, Tensor] = module.state_dict()
    if not any(value.is_meta for value in state.values()):
        return state
    for path, inner in module.named_modules():
        if any(parameter is not None and parameter.is_meta for parameter in inner._parameters.values()):
            for name, value in in_memory(inner)._parameters.items():
                if value is not None:
                    state[f"{path}.{name}" if path else name] = value
    return state


def _loaded(value: Tensor) -> Tensor:
    if value.is_meta:
        raise ConfigError(
            "teacher.options.device_map: the weights that initialise the student are on no device;"
            " use a device map with offload_folder, or student.init: random"
        )
    return value.detach().clone()


def without_hook_(edited: Any) -> None:
    """Removes accelerate's hook from a shallow copy, because its `forward` would run the original module.

    Raises:
        ConfigError: the hook loads weights of the module itself.
    """
    if "_old_forward" not in vars(edited):
        return
    if any(parameter is not None and parameter.is_meta for parameter in edited._parameters.values()):
        raise ConfigError(
            f"teacher.options.device_map: {type(edited).__name__} is offloaded as a whole,"
            " but hidden states need its submodules; use a device map that names the submodules"
        )
    for name in ("forward", "_old_forward", "_hf_hook"):
        vars(edited).pop(name, None)
