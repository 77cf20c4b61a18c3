"""The size of a model, in parameters and bytes."""

from pathlib import Path

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the parameters in memory; tied ones count once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def directory_bytes(directory: str | Path) -> int:
    """Bytes of the weight files in a model directory; 0 for a hub id."""
    files = (path for path in Path(directory).glob("*") if path.suffix in (".safetensors", ".bin"))
    return sum(path.stat().st_size for path in files if path.name.startswith(("model", "pytorch_model")))
