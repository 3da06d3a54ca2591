"""The number of GPUs, from the driver's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.studio.jobs import device_guess


@pytest.mark.parametrize(
    ("files", "visible", "count"),
    [
        ((), None, 0),
        (("nvidia0",), None, 1),
        (("nvidia0", "nvidia1", "nvidia11", "nvidiactl", "nvidia-uvm"), None, 3),
        (("nvidia0", "nvidia1", "nvidia2"), "2,0", 2),
        (("nvidia0", "nvidia1"), "", 0),
    ],
)
def test_gpus_are_counted(
    files: tuple[str, ...], visible: str | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(device_guess, "_GPUS", tmp_path)
    monkeypatch.setattr(device_guess, "seems_accelerated", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_guess.gpu_count() == count


def test_a_gpu_of_another_kind_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_guess, "_GPUS", tmp_path)
    monkeypatch.setattr(device_guess, "seems_accelerated", lambda: True)
    assert device_guess.gpu_count() == 1
