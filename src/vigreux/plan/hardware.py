"""Machines that a plan can be priced for: peak rates and memory from the vendors' data sheets.

Pure arithmetic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vigreux.errors import ConfigError, unknown


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Args:
        flops: peak FLOP/s of dense bfloat16 matrix products.
        memory: bytes.
    """

    flops: float
    memory: float


DEVICES = {
    "a100": Device(312e12, 80e9),
    "h100": Device(989e12, 80e9),
    "h200": Device(989e12, 141e9),
    "b200": Device(2250e12, 180e9),
    "mi300x": Device(1307e12, 192e9),
    "l40s": Device(362e12, 48e9),
}
UTILISATION = 0.4  # share of the peak in training large transformers; small models reach less


@dataclass(frozen=True)
class Cluster:
    """Several devices of one kind.

    Args:
        name: the name on the command line.
        device: the kind of device.
        count: the number of devices.
        utilisation: share of the peak rate that is reached.
    """

    name: str
    device: Device
    count: int
    utilisation: float = UTILISATION

    @classmethod
    def named(cls, name: str) -> Cluster:
        """`h100`, or `h100x64` for 64 of them.

        Raises:
            ConfigError: the device is unknown, or the number is not a number from 1.
        """
        match = re.fullmatch(r"([a-z0-9]*?[a-z0-9])(?:x([0-9]{1,9}))?", name.lower())
        kind, count = (match[1], int(match[2] or 1)) if match else (name, 1)
        if kind not in DEVICES or count < 1:
            raise ConfigError(unknown("--hardware", name, [*DEVICES, "h100x64 (64 of them)"]))
        return cls(name, DEVICES[kind], count)

    @property
    def rate(self) -> float:
        """FLOP/s that training reaches."""
        return self.count * self.device.flops * self.utilisation

    @property
    def memory(self) -> float:
        """Bytes of all devices."""
        return self.count * self.device.memory


@dataclass(frozen=True)
class CachePrice:
    """The cost of a cache of a run's teacher signals, and its savings.

    Args:
        bytes: of the cache.
        capture_flops: of the teacher, once over the run's samples.
        live_flops: of one student's run with the live teacher.
        cached_flops: of one student's run from the cache.
    """

    bytes: float
    capture_flops: float
    live_flops: float
    cached_flops: float

    def flops(self, students: int, *, cached: bool) -> float:
        """Of all students together."""
        return self.capture_flops + students * self.cached_flops if cached else students * self.live_flops

    @property
    def pays_from(self) -> int | None:
        """The number of students from which a cache saves FLOPs; `None`: never."""
        saved = self.live_flops - self.cached_flops
        return None if saved <= 0 else int(self.capture_flops // saved) + 1
