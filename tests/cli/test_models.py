"""`diffstudio models scan`, and a folder of models with pickles in it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from diffstudio import cli, paths
from tests.models.pickles import RAN, attack


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    monkeypatch.chdir(tmp_path)
    torch.save({"cat": torch.ones(2, 768), "of": Path("x")}, "harmless.pt")
    Path("dangerous.ckpt").write_bytes(pickle.dumps({"x": attack()}))
    safetensors.torch.save_file({"cat": torch.ones(768)}, "safe.safetensors")
    return Path("harmless.pt"), Path("dangerous.ckpt"), Path("safe.safetensors")


def test_what_a_scan_says(three: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "scan", *map(str, three)]) == 1
    message = capsys.readouterr().out
    assert (
        "harmless.pt: harmless\n" in message
        and "a textual inversion" in message
        and "unknown names: pathlib.PosixPath" in message
    )
    assert "dangerous.ckpt: dangerous\n" in message and f"would have run: posix.system('touch {RAN}')" in message
    assert "safe.safetensors: not a pickle: it contains no code" in message
    assert not Path(RAN).exists()
    assert cli.main(["models", "scan", "safe.safetensors"]) == 0


def test_the_same_as_json(three: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "scan", "dangerous.ckpt", "nowhere.pt", "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert (first["verdict"], first["dangerous"], first["would_run"]) == (
        "dangerous",
        ["posix.system"],
        [f"posix.system('touch {RAN}')"],
    )
    assert second["verdict"] == "unreadable" and "There is no checkpoint" in second["reason"]


def test_of_a_folder_every_pickle_is_looked_through(
    three: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model/unet").mkdir(parents=True)
    for number, file in enumerate(three):
        file.rename(Path("model/unet", f"{number}{file.suffix}"))
    assert cli.main(["models", "scan", "model", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(Path(one["file"]).name, one["verdict"]) for one in report] == [
        ("0.pt", "harmless"),
        ("1.ckpt", "dangerous"),
    ]
    assert not Path(RAN).exists()


def test_a_pickle_under_another_suffix_is_scanned(
    three: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model").mkdir()
    three[1].rename("model/dangerous.safetensors")
    three[2].rename("model/safe.ckpt")
    Path("model/safe.ckpt").with_suffix(".gguf").write_text("<html>")
    assert cli.main(["models", "scan", "model", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(Path(one["file"]).name, one["verdict"]) for one in report] == [
        ("dangerous.safetensors", "dangerous"),
        ("safe.ckpt", "no pickle"),
    ]
    assert not Path(RAN).exists()


def test_in_the_list_it_is_what_it_holds(three: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Harmless ones say what they are, dangerous ones are left out with what they would have run; and become
    safetensors.
    """
    paths.checkpoints().mkdir(parents=True)
    torch.save({"cat": torch.ones(2, 768)}, paths.checkpoints() / "cat.pt")
    three[1].rename(paths.checkpoints() / three[1].name)
    assert cli.main(["models", "list", "--role", "embedding"]) == 0
    report = capsys.readouterr()
    assert "cat" in report.out and "would have run" in report.err and not Path(RAN).exists()
    assert cli.main(["models", "convert", "cat"]) == 0
    made = Path(capsys.readouterr().out.strip())
    assert made.name == "cat.safetensors" and torch.equal(safetensors.torch.load_file(made)["cat"], torch.ones(2, 768))
    assert cli.main(["models", "convert", str(paths.checkpoints() / "dangerous.ckpt")]) == 1
    assert "would have run" in capsys.readouterr().err
