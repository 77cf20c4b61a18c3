"""The networks of the theory: one hidden layer of rectified linear units."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vigreux.errors import CheckpointError
from vigreux.files.atomic import write_atomic, writing

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MODEL_TYPE = "two-layer"


class TwoLayer(nn.Module):
    """`f(x) = A relu(W x + b) + c`, x (N, n) → logits (N, K), initialised as in arXiv 2410.05464.

    `hidden.weight` is W (m, n), `hidden.bias` b (m,), `output.weight` A (K, m), `output.bias` c (K,).

    Args:
        n: length of an input.
        width: hidden units m.
        classes: logits K.
        seed: of the initial weights: U(±1/√n) for W and b, U(±1/√m) for A and c.
        dtype: of the parameters.
    """

    def __init__(
        self, n: int, width: int, classes: int, *, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.hidden, self.output = (
            _linear(n, width, dtype, generator),
            _linear(width, classes, dtype, generator),
        )
        self.requires_grad_(False)  # the online kernels know their gradients

    @property
    def n(self) -> int:
        """Length of an input."""
        return self.hidden.in_features

    @property
    def width(self) -> int:
        """Hidden units m."""
        return self.hidden.out_features

    @property
    def classes(self) -> int:
        """Logits K."""
        return self.output.out_features

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.hidden.weight.dtype

    def hidden_states(self, x: Tensor, *, before_relu: bool = False) -> Tensor:
        """(N, n) → (N, m): `relu(W x + b)`, or `W x + b`."""
        z = self.hidden(x)
        return z if before_relu else z.relu_()

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden_states(x))

    def parameters_in_order(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W, b, A, c."""
        return self.hidden.weight.data, self.hidden.bias.data, self.output.weight.data, self.output.bias.data

    def save(self, directory: Path) -> None:
        """Writes model.safetensors and config.json into `directory`, which is made."""
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        write_atomic(
            directory / WEIGHTS, save({name: value.contiguous() for name, value in self.state_dict().items()})
        )
        described = {"model_type": MODEL_TYPE, "n": self.n, "width": self.width, "classes": self.classes}
        write_atomic(directory / CONFIG, json.dumps(described, indent=1))

    def load_weights(self, directory: Path) -> None:
        """Takes over the weights in `directory`.

        Raises:
            CheckpointError: missing or damaged weights, or those of another shape.
        """
        weights = _read_weights(directory)
        for name, own in self.state_dict().items():
            if weights[name].shape != own.shape:
                raise CheckpointError(
                    f"{directory}: {name} is {tuple(weights[name].shape)}; accepted: {tuple(own.shape)}"
                )
        self.load_state_dict(weights)

    @classmethod
    def load(cls, directory: Path | str) -> TwoLayer:
        """The network that `save` wrote.

        Raises:
            CheckpointError: no such directory, no two-layer network, or damaged weights.
        """
        directory = Path(directory)
        try:
            described = json.loads((directory / CONFIG).read_text())
        except OSError as error:
            raise CheckpointError(
                f"{directory}: no {CONFIG}; accepted: a directory that vigreux teach or distill wrote"
            ) from error
        except ValueError as error:
            raise CheckpointError(f"{directory / CONFIG}: is damaged ({error})") from error
        kind = described.get("model_type") if isinstance(described, dict) else None
        if kind != MODEL_TYPE:
            raise CheckpointError(
                f"{directory}: model type {kind!r}; accepted: {MODEL_TYPE!r}, a network of a parity task"
            )
        weights = _read_weights(directory)
        (width, n), classes = weights["hidden.weight"].shape, len(weights["output.bias"])
        network = cls(n, width, classes, dtype=weights["hidden.weight"].dtype)
        network.load_weights(directory)
        return network


def _linear(inputs: int, outputs: int, dtype: torch.dtype, generator: torch.Generator) -> nn.Linear:
    """`nn.Linear` with PyTorch's default initial weights, drawn from `generator`."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    nn.init.uniform_(layer.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
    return layer


def _read_weights(directory: Path) -> dict[str, Tensor]:
    path = directory / WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({' '.join(str(error).split())})") from error
    wanted = {"hidden.weight": 2, "hidden.bias": 1, "output.weight": 2, "output.bias": 1}
    if {name: value.dim() for name, value in weights.items()} != wanted:
        raise CheckpointError(
            f"{path}: holds {', '.join(sorted(weights)[:4])}; accepted: {', '.join(wanted)}"
        )
    return weights
