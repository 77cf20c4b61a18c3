"""Formats FLOPs, bytes and seconds with three digits and a unit."""

from __future__ import annotations


def human(n: float, unit: str) -> str:
    """Three significant digits and a decimal prefix: `human(1.234e12, "FLOP")` is '1.23 TFLOP'."""
    prefixes = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
    # 999.5 would round to four digits.
    power = next((i for i in range(len(prefixes)) if abs(n) < 999.5 * 1000**i), len(prefixes) - 1)
    return f"{n / 1000**power:.3g} {prefixes[power]}{unit}"


def human_flops(n: float) -> str:
    """'1.23 TFLOP'."""
    return human(n, "FLOP")


def human_bytes(n: float) -> str:
    """'45 MB', with 1 MB = 10⁶ bytes."""
    return human(n, "B")


def human_time(seconds: float) -> str:
    """'320 ms', '12.5 s', '1 min 20 s', '2 h 5 min', '3 d 4 h'."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    units = (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1))
    large, small, large_size, small_size = next(unit for unit in units if round(seconds) >= unit[2])
    count, remainder = divmod(round(seconds / small_size), large_size // small_size)
    return f"{count} {large} {remainder} {small}" if remainder else f"{count} {large}"
