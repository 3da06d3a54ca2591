"""Human-readable sizes, counts and durations."""

from __future__ import annotations

from diffstudio.plurals import human_bytes as human_bytes


def human_count(count: float) -> str:
    """8_500_000 -> `8.5 M`."""
    for limit, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if count >= limit:
            value = count / limit
            return f"{value:.0f}{unit}" if value >= 10 else f"{value:.1f}{unit}"
    return f"{count:.0f}"


def device_text(device: str) -> str:
    """A torch device as people write it: `CPU`, `CUDA:1`."""
    kind, colon, index = device.partition(":")
    return f"{kind.upper()}{colon}{index}" if kind in ("cpu", "cuda", "mps", "xpu") else device


def human_duration(seconds: float) -> str:
    """0.04 -> `0.04 s`, 75 -> `1 min 15 s`, 5000 -> `1 h 23 min`; `–` when unknown."""
    if not 0 <= seconds < 1e9:
        return "–"
    if seconds < 10:
        return f"{seconds:.0f} s" if seconds == round(seconds) else f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 and whole % 60 else f"{round(whole / 60)} min"
    if whole < 48 * 3600:
        minutes = round(whole / 60)
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{round(whole / 86400)} days"
