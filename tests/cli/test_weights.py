"""`diffstudio models convert`, `merge`, `fuse-lora`, `prune`, `export`: what they print, and how they end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from diffstudio import cli, paths
from diffstudio.cli import weights
from diffstudio.models.library.records import read_checkpoint
from tests.cli.test_cli import ROOT, the_sentence
from tests.models.headers import write_header
from tests.models.tiny import write_tiny_checkpoint


@pytest.fixture
def two(home: Path) -> tuple[Path, Path]:
    """Two checkpoints trained here, in the folder of models."""
    return (
        write_tiny_checkpoint(paths.checkpoints() / "one.safetensors", seed=0),
        write_tiny_checkpoint(paths.checkpoints() / "two.safetensors", seed=1),
    )


def models(*arguments: str | Path) -> int:
    return cli.main(["models", *map(str, arguments)])


def test_converted_merged_and_drawn_with(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models("convert", "one", "--precision", "fp16") == 0
    half = Path(capsys.readouterr().out.strip())
    assert half == paths.checkpoints() / "one-fp16.safetensors" and read_checkpoint(half).dtype == "F16"
    assert models("convert", "one", "--precision", "16") == 0  # again: beside it, not over it
    assert capsys.readouterr().out.strip() == str(paths.checkpoints() / "one-fp16-2.safetensors")
    assert models("merge", "one", "two", "--share", "0.25", "--precision", "bf16") == 0
    merged = Path(capsys.readouterr().out.strip())
    assert merged.name == "one-two-0.25.safetensors"
    a, b, found = (safetensors.torch.load_file(path) for path in (*two, merged))
    assert all(torch.equal(value, torch.lerp(a[name], b[name], 0.25).bfloat16()) for name, value in found.items())
    assert (
        cli.main(
            ["generate", "red apple", "--checkpoint", merged.stem, "--steps", "2", "--out", str(tmp_path / "a.png")]
        )
        == 0
    )
    capsys.readouterr()
    assert models("show", merged.stem, "--json") == 0
    recipe = json.loads(json.loads(capsys.readouterr().out)["metadata"]["diffstudio.merge"])
    assert [one["name"] for one in recipe["inputs"]] == ["one", "two"] and all(
        len(one["sha256"]) == 64 for one in recipe["inputs"]
    )
    assert models("merge", "one", "two", merged.stem, "--out", tmp_path / "three.safetensors") == 0
    assert (
        json.loads(read_checkpoint(tmp_path / "three.safetensors").metadata["diffstudio.merge"])["method"]
        == "add difference"
    )


def test_a_pickle_is_converted(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        {"state_dict": {"x.lora_up.weight": torch.ones(4, 2), "x.lora_down.weight": torch.ones(2, 4)}},
        tmp_path / "old.pt",
    )
    assert models("convert", tmp_path / "old.pt") == 0
    made = Path(capsys.readouterr().out.strip())
    assert made == paths.checkpoints() / "loras" / "old.safetensors" and set(safetensors.torch.load_file(made)) == {
        "x.lora_up.weight",
        "x.lora_down.weight",
    }


def test_what_was_left_out_is_said(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vae = {
        "encoder.conv_in.weight": torch.ones(8, 3, 3, 3),
        "decoder.conv_in.weight": torch.ones(8, 4, 3, 3),
        "decoder.mid.block_1.conv1.weight": torch.ones(8, 8, 3, 3),
        "loss.discriminator.main.0.weight": torch.ones(1000, 100),
    }
    safetensors.torch.save_file(vae, tmp_path / "vae.safetensors")
    assert models("prune", tmp_path / "vae.safetensors") == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(paths.checkpoints() / "vae" / "vae-pruned.safetensors")
    assert "Left out: the VAE's training losses (0.4 MB). The file is 0.4 MB smaller." in captured.err


@pytest.mark.parametrize(
    ("text", "name", "weight"),
    [
        ("a", "a", 1.0),
        ("a:0.5", "a", 0.5),
        ("C:\\models\\a.safetensors", "C:\\models\\a.safetensors", 1.0),
        ("C:\\models\\a.safetensors:-2", "C:\\models\\a.safetensors", -2.0),
        ("/models/12:30.safetensors", "/models/12:30.safetensors", 1.0),
    ],
)
def test_a_lora_is_named_with_or_without_its_weight(
    monkeypatch: pytest.MonkeyPatch, text: str, name: str, weight: float
) -> None:
    monkeypatch.setattr(weights, "_find", lambda name: name)
    assert weights._lora(text) == (name, weight)


@pytest.mark.parametrize(
    ("arguments", "expected", "code"),
    [
        (["convert", "nobody"], "no checkpoint called 'nobody'", 2),
        (["convert", "one"], "is a safetensors file in fp32 already", 2),
        (["convert", "one", "--precision", "fp4"], "no precision called 'fp4'. choose one of keep, fp32", 2),
        (["convert", "one", "--precision", "fp8"], "cannot be stored in fp8", 2),
        (
            ["convert", "one", "--precision", "fp16", "--out", "{home}/models/one.safetensors"],
            "existing files are never overwritten",
            2,
        ),
        (["convert", "one", "--precision", "fp16", "--out", "x.ckpt"], "Name it x.safetensors", 2),
        (["convert", "one", "--precision", "fp16", "--out", "/dev/null/x.safetensors"], "cannot be written", 1),
        (["merge", "one"], "a merge takes two or three", 2),
        (["merge", "one", "two", "one", "two"], "a merge takes two or three", 2),
        (["merge", "one", "two", "--share", "1.5"], "or allow extrapolation with --beyond.", 2),
        (["merge", "one", "two", "--share", "nan", "--beyond"], "it must be between -1,000 and 1,000", 2),
        (
            ["merge", "one", "two", "--share", "nan"],
            "The share is nan: it must be between 0 and 1. Choose another one.",
            2,
        ),
        (["merge", "one", "two", "--share", "1e30", "--beyond"], "The share is 1e+30: it must be between", 2),
        (["merge", "one", "two", "--share", "half"], "not a number", 2),
        (["merge", "one", "wide"], "they have different networks", 2),
        (["merge", "one", "broken"], "is not a weights file", 1),
        (["fuse-lora", "one", "two:0.5"], "cannot be used with LoRAs", 2),
        (["bake", "one"], "LORA", 2),
        (["prune", "one"], "one is pruned already", 2),
        (["export", "one"], "has no pipeline in diffusers", 1),
    ],
)
def test_what_a_person_can_get_wrong(
    two: tuple[Path, Path],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_checkpoint(paths.checkpoints() / "wide.safetensors", width=32)
    (paths.checkpoints() / "broken.safetensors").write_bytes(b"nothing of the kind")
    before = everything(tmp_path)
    assert models(*(argument.format(home=home) for argument in arguments)) == code
    assert expected.casefold() in the_sentence(capsys).casefold()
    assert everything(tmp_path) == before


def everything(folder: Path) -> list[str]:
    """But for what may be deleted at any time."""
    return sorted(str(path) for path in folder.rglob("*") if "cache" not in path.parts)


def test_a_merge_beyond_the_range_of_its_type_writes_nothing(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in two:
        metadata = dict(read_checkpoint(path).metadata)
        large = {name: (1000 * value).half() for name, value in safetensors.torch.load_file(path).items()}
        safetensors.torch.save_file(large, path, metadata)
    before = everything(paths.checkpoints())
    assert models("merge", "one", "two", "--share", "1000", "--beyond") == 2
    assert "would be beyond the range of float16" in the_sentence(capsys)
    assert everything(paths.checkpoints()) == before


def test_a_full_disk(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    assert models("convert", "one", "--precision", "fp16") == 1
    assert "would not fit on the disk" in the_sentence(capsys)


def test_stopped_it_leaves_nothing(home: Path, tmp_path: Path) -> None:
    """Ctrl+C in the middle of a gigabyte."""
    large = write_header(
        tmp_path / "large.safetensors",
        {f"encoder.block.{number}.layer.0.SelfAttention.q.weight": (1024, 1024) for number in range(300)}
        | {"shared.weight": (32128, 16)},
        "F32",
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "diffstudio",
            "models",
            "convert",
            str(large),
            "--precision",
            "fp16",
            "--out",
            str(tmp_path / "out" / "short.safetensors"),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        parts = (tmp_path / "out").glob
        deadline = time.monotonic() + 60
        while (
            not any(part.stat().st_size > 4 << 20 for part in parts(".diffstudio-*.part"))
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Stopped. Nothing was written." in message
    assert list((tmp_path / "out").iterdir()) == []
