"""Counts FLOPs by the formulas of `torch.utils.flop_counter`, in half the time of torch's counter.

Torch's `FlopCounterMode` adds hooks to every module to count per module, and tries to decompose every
operation. On a small model this takes seven times as long as the model itself. Our counter has only one
total, and decomposes an operation only if it is composed of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):
    """A context manager that counts the FLOPs of torch operations, forward and backward.

    A multiplication and an addition are 2 FLOPs. Only operations with a formula in torch's `flop_registry`
    count: matrix products, convolutions and some attention kernels. `flops` holds the count.
    """

    supports_higher_order_operators = True  # `__torch_dispatch__` leaves them to torch

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if not isinstance(func, OpOverload):
            return NotImplemented  # a higher-order operation: torch's counter does the same
        kwargs = kwargs or {}
        if _is_composed(func):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        return result


@cache
def _is_composed(operation: OpOverload) -> bool:
    """Whether torch runs the operation as a sequence of others, such as `linear` in inference mode."""
    return operation.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)
