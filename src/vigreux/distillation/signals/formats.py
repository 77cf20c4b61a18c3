"""The formats of a teacher's rows in a cache: dense with 32, 16 or 8 bits, or the most likely classes.

A format encodes rows (N, …) into named tensors whose first dimension is N, and decodes any slice of them.
The loss of precision is bounded, and `error` states the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from pydantic import TypeAdapter
from torch import Tensor

from vigreux.config.transformer import Precision
from vigreux.errors import ConfigError, unknown

_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
_ERRORS = {
    "float32": "none",
    "bfloat16": "at most 1/256 of each number",
    "int8": "at most 1/254 of the largest number of its row",
}
Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Dense:
    """Rows of `width` numbers; with 8 bits, each row has its own scale.

    Args:
        width: the numbers per row.
        precision: float32, bfloat16 or int8.
    """

    width: int
    precision: Precision = "int8"

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ConfigError(unknown("cache.precision", self.precision, get_args(Precision)))

    @property
    def bytes_per_row(self) -> int:
        """The bytes of a row on disk."""
        return self.width * _BYTES[self.precision] + 4 * (self.precision == "int8")

    @property
    def parts(self) -> tuple[str, ...]:
        """The tensors of an encoding."""
        return ("values", "scale") if self.precision == "int8" else ("values",)

    @property
    def error(self) -> str:
        """The largest error of a stored number, in words."""
        return _ERRORS[self.precision]

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """(N, width) → `values` (N, width), and for 8 bits `scale` (N,): the value of 127."""
        rows = rows.detach().to("cpu", torch.float32)
        if self.precision != "int8":
            return {"values": rows.to(getattr(torch, self.precision))}
        scale = rows.abs().amax(dim=-1)
        steps = rows * (127 / scale.clamp(min=torch.finfo(torch.float32).tiny))[:, None]
        return {"values": steps.round_().clamp_(-127, 127).to(torch.int8), "scale": scale}

    def decode(self, parts: Parts) -> Tensor:
        """(N, width) float32."""
        values = parts["values"].to(torch.float32)
        return values * (parts["scale"] / 127)[:, None] if self.precision == "int8" else values


@dataclass(frozen=True)
class TopClasses:
    """The log-probabilities of the `k` most likely of `classes`, and the total mass of all others.

    Args:
        classes: the number of logits.
        k: the number of classes that are stored.
    """

    classes: int
    k: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.classes:
            raise ConfigError(f"cache.k: {self.k}; accepted: 1 to {self.classes}, the teacher's classes")

    @property
    def width(self) -> int:
        """The width of a row before encoding."""
        return self.classes

    @property
    def bytes_per_row(self) -> int:
        """The bytes of a row on disk: 4 per id, 2 per log-probability, 4 for the rest."""
        return 6 * self.k + 4

    @property
    def parts(self) -> tuple[str, ...]:
        """The tensors of an encoding."""
        return ("ids", "log_p", "rest")

    @property
    def error(self) -> str:
        """The loss of precision, in words."""
        return (
            f"log-probabilities of the {self.k} most likely to 1/2048 of themselves; the rest of the mass is"
            " spread evenly"
        )

    def encode(self, logits: Tensor) -> dict[str, Tensor]:
        """(N, classes) → `ids` (N, k), falling `log_p` (N, k), and `rest` (N,), the others' log-mass."""
        log_p = torch.log_softmax(logits.detach().float(), dim=-1)
        top, ids = log_p.topk(self.k, dim=-1)
        others = log_p.scatter(-1, ids, -math.inf)
        rest = torch.logsumexp(others, dim=-1)  # −inf where nothing is left
        return {"ids": ids.to("cpu", torch.int32), "log_p": top.to("cpu", torch.float16), "rest": rest.cpu()}

    def decode(self, parts: Parts) -> TopRows:
        """The rows, which become dense only when `TopRows.logits` is called."""
        return TopRows(parts["ids"], parts["log_p"], parts["rest"], self.classes)


@dataclass(frozen=True)
class TopRows:
    """Decoded rows of `TopClasses`: ids and log_p (N, k), rest (N,)."""

    ids: Tensor
    log_p: Tensor
    rest: Tensor
    classes: int

    def __len__(self) -> int:
        return len(self.ids)

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """(n, classes) float32 log-probabilities of some rows; all other classes share the rest equally."""
        log_p = self.log_p[rows].float()
        rest = self.rest[rows].float()
        num_others = self.classes - log_p.shape[-1]
        fill = rest - math.log(num_others) if num_others else torch.full_like(rest, -math.inf)
        dense = fill[:, None].repeat(1, self.classes)
        return dense.scatter_(-1, self.ids[rows].long(), log_p)

    def to(self, device: torch.device | str) -> TopRows:
        """The same rows on another device."""
        return TopRows(self.ids.to(device), self.log_p.to(device), self.rest.to(device), self.classes)


Format = Dense | TopClasses
_KINDS: dict[str, type] = {"dense": Dense, "top": TopClasses}


def to_plain(form: Format) -> dict[str, Any]:
    """The format as the manifest stores it."""
    kind = next(name for name, cls in _KINDS.items() if type(form) is cls)
    return {"kind": kind, **vars(form)}


def from_plain(plain: Mapping[str, Any]) -> Format:
    """The inverse of `to_plain`. Raises `KeyError` or `ValueError` for any other mapping."""
    options = dict(plain)
    form: Format = TypeAdapter(_KINDS[options.pop("kind")]).validate_python(options)
    return form
