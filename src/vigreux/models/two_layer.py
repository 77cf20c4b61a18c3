"""Two-layer networks, as in the theory: one hidden layer of rectified linear units."""

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
        seed: seed of the initial weights: U(±1/√n) for W and b, U(±1/√m) for A and c.
        dtype: dtype of the parameters.
    """

    def __init__(
        self, n: int, width: int, classes: int, *, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.hidden = _linear(n, width, dtype, generator)
        self.output = _linear(width, classes, dtype, generator)
        self.requires_grad_(False)  # the kernels compute the gradients

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
        """The dtype of the parameters."""
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
        """Writes model.safetensors and config.json to `directory`, which is created if necessary."""
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        write_atomic(
            directory / WEIGHTS, save({name: value.contiguous() for name, value in self.state_dict().items()})
        )
        config = {"model_type": MODEL_TYPE, "n": self.n, "width": self.width, "classes": self.classes}
        write_atomic(directory / CONFIG, json.dumps(config, indent=1))

    def load_weights(self, directory: Path) -> None:
        """Loads the weights in `directory`.

        Raises:
            CheckpointError: the weights are missing, damaged or of another shape.
        """
        weights = _read_weights(directory)
        for name, value in self.state_dict().items():
            if weights[name].shape != value.shape:
                raise CheckpointError(
                    f"{directory}: {name} is {tuple(weights[name].shape)}; accepted: {tuple(value.shape)}"
                )
        self.load_state_dict(weights)

    @classmethod
    def load(cls, directory: Path | str) -> TwoLayer:
        """The network that `save` wrote.

        Raises:
            CheckpointError: the directory does not exist or holds no two-layer network, or the weights are
                damaged.
        """
        directory = Path(directory)
        try:
            config = json.loads((directory / CONFIG).read_text())
        except OSError as error:
            raise CheckpointError(
                f"{directory}: no {CONFIG}; accepted: a directory that vigreux teach or distill wrote"
            ) from error
        except ValueError as error:
            raise CheckpointError(f"{directory / CONFIG}: is damaged ({error})") from error
        model_type = config.get("model_type") if isinstance(config, dict) else None
        if model_type != MODEL_TYPE:
            raise CheckpointError(
                f"{directory}: model type {model_type!r};"
                f" accepted: {MODEL_TYPE!r}, a network of a parity task"
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
    dimensions = {"hidden.weight": 2, "hidden.bias": 1, "output.weight": 2, "output.bias": 1}
    if {name: value.dim() for name, value in weights.items()} != dimensions:
        raise CheckpointError(
            f"{path}: holds {', '.join(sorted(weights)[:4])}; accepted: {', '.join(dimensions)}"
        )
    return weights
