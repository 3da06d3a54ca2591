"""The command line: what it prints, and that whatever a person gets wrong ends in one sentence and a non-zero exit."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio import cli, paths
from diffstudio.cli.terminal import allow_undecodable_names, print_message
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.models.families.pixel_file import load
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.curves.saved import NamedCurve, save_curve
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, SpacingName
from diffstudio.training.loop import train
from diffstudio.training.run.run_folder import RunFolder
from tests.models.headers import write_header
from tests.models.tiny import write_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tiny(home: Path) -> Path:
    return write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")


def generate(*arguments: str | Path) -> int:
    return cli.main(["generate", "red apple", "--checkpoint", "tiny", "--steps", "3", *map(str, arguments)])


def the_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on standard error, but for progress: one line, no traceback. Nothing on standard output."""
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    message = [line for line in captured.err.splitlines() if line.startswith("diffstudio: ")]
    assert len(message) == 1 and captured.err.splitlines()[-1] == message[0], captured.err
    assert message[0].endswith(".") and captured.out == ""
    return message[0]


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diffstudio", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


# What goes well


def test_a_picture_carries_its_request(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "apple.png"
    assert generate("--out", out, "--seed", "7", "--negative", "pear") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n" and "step 3 of 3" in captured.err
    request = metadata.read(out).request
    assert (request.prompt, request.negative, request.seed, request.steps) == ("red apple", "pear", 7, 3)
    assert [file.name for file in out.parent.iterdir()] == ["apple.png"]


def test_the_same_request_makes_the_same_pixels(tiny: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        assert generate("--out", tmp_path / name, "--seed", "3") == 0
    assert generate("--out", tmp_path / "c.png", "--seed", "4") == 0
    a, b, c = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png", "c.png"))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_saved_noise_schedule_is_a_spacing(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = NamedCurve("Steep", NoiseCurve(((0.0, 9.0), (0.3, 2.0), (1.0, -9.0))))
    save_curve(drawn)
    assert generate("--out", tmp_path / "a.png", "--spacing", "steep") == 0
    request = metadata.read(tmp_path / "a.png").request
    assert (request.spacing, request.curve) == (SpacingName.CUSTOM, drawn)
    assert generate("--out", tmp_path / "b.png", "--spacing", "karras") == 0
    a, b = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert not np.array_equal(a, b)
    for name in ("custom", "none such"):
        assert generate("--out", tmp_path / "c.png", "--spacing", name) == 2
        assert "log_snr, align_your_steps, fitted, Steep" in capsys.readouterr().err
    upscale = ["upscale", tmp_path / "a.png", "--out", tmp_path / "d.png", "--checkpoint", "tiny", "--spacing", "steep"]
    assert cli.main([str(each) for each in upscale]) == 0
    assert metadata.read(tmp_path / "d.png").request.curve == drawn


def test_guidance_is_asked_for_and_refused_by_name(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = tmp_path / "run" / "checkpoints"
    early = write_tiny_checkpoint(run_folder / "00000100.safetensors", seed=1)
    shutil.copy(tiny, run_folder / "00000800.safetensors")
    options = ["--guidance-interval", "0.1,0.8", "--cads", "0.2", "--cads-tau1", "0.3", "--autoguidance-scale", "1.5"]
    out = tmp_path / "a.png"
    arguments = ["--checkpoint", run_folder / "00000800.safetensors", "--autoguidance", "early", *options]
    assert generate("--out", out, *arguments) == 0
    capsys.readouterr()
    settings = metadata.read(out)
    request = settings.request
    assert isinstance(request, GenerateRequest) and request.guidance_interval == (0.1, 0.8)
    assert (request.cads, request.cads_tau1, request.autoguidance_scale) == (0.2, 0.3, 1.5)
    assert Path(request.autoguidance) == early and settings.environment["autoguidance_model"]["name"] == early.stem
    for wrong, sentence in (
        (["--guidance-interval", "0.8,0.1"], "has the noise levels 0.8 and 0.1"),
        (["--autoguidance-scale", "2"], "--autoguidance-scale has no effect without --autoguidance"),
        (["--cads-mixing", "0.5"], "--cads-mixing has no effect without --cads"),
        (["--autoguidance", "early"], "tiny has no earlier checkpoint"),
        (["--autoguidance", "tiny"], "tiny cannot be used to guide tiny: it is the same checkpoint"),
    ):
        assert generate("--out", tmp_path / "b.png", *wrong) == 2
        assert sentence in the_sentence(capsys)
    assert generate("--out", tmp_path / "b.png", "--guidance-interval", "0.1") == 2
    assert "is not two numbers separated by a comma" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "names"),
    [
        ("pictures", ["red-apple-5-1.png", "red-apple-6-2.png"]),
        ("apple.png", ["apple-1.png", "apple-2.png"]),
        ("{seed}.png", ["5.png", "6.png"]),
        ("x{number}.png", ["x1.png", "x2.png"]),
        ("{number}/x.png", ["x.png", "x.png"]),
    ],
)
def test_where_several_pictures_go(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, names: list[str]
) -> None:
    assert generate("--out", tmp_path / out, "--seed", "5", "--count", "2") == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in printed] == names and all(path.is_file() for path in printed)
    assert [metadata.read(path).request.seed for path in printed] == [5, 6]


def test_existing_images_are_kept_without_force(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.png"
    out.write_text("mine")
    assert generate("--out", out) == 2
    assert "a.png already exists. Choose another name, or give --force" in the_sentence(capsys)
    assert out.read_text() == "mine"
    (tmp_path / "8.png").write_text("mine")  # the second of two images: refused before the first is made
    assert generate("--out", tmp_path / "{seed}.png", "--seed", "7", "--count", "2") == 2
    assert not (tmp_path / "7.png").exists() and (tmp_path / "8.png").read_text() == "mine"
    assert generate("--out", out, "--force") == 0
    assert metadata.read(out).request.prompt == "red apple"


def test_images_in_a_folder_get_free_names(tiny: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert generate("--out", f"{tmp_path}/version1.5/", "--seed", "3") == 0
    names = sorted(path.name for path in (tmp_path / "version1.5").iterdir())
    assert names == ["red-apple-3-2.png", "red-apple-3.png"]
    assert generate("--out", f"{tmp_path}/version1.5/", "--seed", "3", "--force") == 0
    assert len(list((tmp_path / "version1.5").iterdir())) == 2


def test_models_are_listed_and_shown(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (paths.checkpoints() / "broken.safetensors").write_bytes(b"nothing of the kind")
    assert cli.main(["models", "list"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"^tiny +pixel +text +16 × 16", captured.out, re.MULTILINE)
    assert "broken.safetensors" in captured.err and "is not a weights file" in captured.err
    assert cli.main(["models", "list", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["tiny"]["width"] == 16 and listed["tiny"]["format"] == 1
    for name in ("tiny", str(tiny)):
        assert cli.main(["models", "show", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["metadata"]["modelspec.title"] == "tiny"
    assert cli.main(["models", "show", "tiny"]) == 0
    assert "diffstudio.network" in capsys.readouterr().out


def test_settings_that_cannot_be_read_are_named(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths.settings_file().write_text(json.dumps({"format": 1, "threads": "all", "text_size": 7}))
    assert cli.main(["models", "list"]) == 0
    said = "Some of the settings could not be read and are not used: text size, threads."
    assert capsys.readouterr().err == f"diffstudio: {said}\n"
    paths.settings_file().write_text("{")
    assert cli.main(["models", "list"]) == 0
    assert "The settings could not be read (it is not valid JSON" in capsys.readouterr().err


def test_a_closed_pipe_is_no_accident(tiny: Path) -> None:
    command = f"{sys.executable} -m diffstudio models show tiny | head -c 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize(
    ("encoding", "printed"), [("ascii", "-0.3 (-inf...2), 0.5 x \\u7a7a"), ("utf-8", "−0.3 (−∞…2), 0.5 × 空")]
)
def test_signs_that_a_terminal_cannot_encode_become_plainer(
    monkeypatch: pytest.MonkeyPatch, encoding: str, printed: str
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))
    allow_undecodable_names()
    print("−0.3 (−∞…2), 0.5 × 空", flush=True)
    print_message("0.5 × a")
    assert sys.stdout.buffer.getvalue().decode(encoding) == f"{printed}\n"  # type: ignore[attr-defined]
    said = f"diffstudio: 0.5 {'x' if encoding == 'ascii' else '×'} a\n"
    assert sys.stderr.buffer.getvalue().decode(encoding) == said  # type: ignore[attr-defined]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["--help"], ["generate", "--help"], ["train", "--help"], ["models", "--help"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        captured = capsys.readouterr()
        assert captured.out and not captured.err


# What a person can get wrong


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["paint"], "paint"),
        (["generate"], "PROMPT"),
        (["generate", "x"], "--out"),
        (["generate", "x", "--out", ""], "--out"),
        (["generate", "x", "--out", "a.png", "--seed", "soon"], "not a whole number"),
        (["generate", "x", "--out", "a.png", "--seed", str(2**63)], "seed"),
        (["generate", "x", "--out", "a.png", "--seed", "9" * 5000], "5,000 digits"),
        (["generate", "x", "--out", "a.png", "--seed", "-1"], "seed"),
        (["generate", "x", "--out", "a.png", "--seed", str(2**63 - 1), "--count", "2"], "seed"),
        (["generate", "x" * 10_001, "--out", "a.png"], "10,001 characters"),
        (["generate", "\udcff", "--out", "a.png"], "UTF-8"),
        (["generate", "x", "--out", "a.png", "--steps", "0"], "steps"),
        (["generate", "x", "--out", "a.png", "--clip-skip", "13"], "The clip skip is 13"),
        (["generate", "x", "--out", "a.png", "--clip-skip", "two"], "not a whole number"),
        (["generate", "x", "--out", "a.png", "--steps", "2.5"], "2.5"),
        (["generate", "x", "--out", "a.png", "--sampler", "magic"], "dpmpp_2m"),
        (["generate", "x", "--out", "a.png", "--spacing", "wide"], "no scheduler called 'wide'. Choose one of uniform"),
        (["generate", "x", "--out", "a.png", "--guidance", "nan"], "CFG scale"),
        (["generate", "x", "--out", "a.png", "--guidance", "much"], "not a number"),
        (["generate", "x", "--out", "a.png", "--width", "0"], "width"),
        (["generate", "x", "--out", "a.png", "--count", "0"], "number of images"),
        (["generate", "x", "--out", "a.png", "--strength", "0"], "strength"),
        (["generate", "x", "--out", "a.png", "--mask", "m.png"], "Give the image to inpaint"),
        (["generate", "x", "--out", "a.png", "--strength", "0.5"], "--init"),
        (["generate", "x", "--out", "a.png", "--checkpoint", "no-such"], "no-such"),
        (["generate", "x", "--out", "a.png", "--checkpoint", "/nowhere/x.safetensors"], "/nowhere/x.safetensors"),
        (["train"], "folder"),
        (["train", "pictures", "--steps", "5", "--minutes", "1"], "one of them"),
        (["train", "pictures", "--minutes", "-1"], "minutes"),
        (["train", "pictures", "--steps", "0"], "steps"),
        (["train", "pictures", "--processes", "-2"], "number of processes"),
        (["train", "pictures", "--processes", "many"], "whole number"),
        (["train", "pictures", "--join", "nowhere"], "192.168.1.5:29500"),
        (["train", "--resume"], "--run"),
        (["train", "--resume", "--run", "x", "--steps", "9"], "cannot be changed"),
        (["generate", "x", "--out", "~nobody-at-all/a.png"], "home folder"),
        (["generate", "x", "--out", "a.png", "--checkpoint", "n" * 5000], "no checkpoint called"),
        (["generate", "x", "--out", "a.png", "--checkpoint", "~nobody-at-all/a.safetensors"], "no checkpoint called"),
        (["generate", "x", "--out", "{prompt}.png"], "{number}"),
        (["generate", "x", "--out", "a.png", "--samp", "euler"], "--samp"),
        (["generate", "-text", "--out", "a.png"], "write `--prompt=-text`, or `-- -text` at the end"),
        (["generate", "-hello", "--out", "a.png"], "`-hello` was taken for an option"),
        (["generate", "x", "--prompt=y", "--out", "a.png"], "Two prompts were given, one of them with --prompt"),
        (["generate", "--prompt=y", "--stepz", "--out", "a.png"], "arguments: --stepz."),
        (
            ["generate", "--prompt", "-text", "--out", "a.png"],
            "Write `--prompt=-text` for a value that begins with `-`",
        ),
        (["generate", "x", "--negative", "-y", "--out", "a.png"], "Write `--negative=-y`"),
        (["attention", "--prompt=-text", "--out", "a"], "required: CHECKPOINT. See"),
        (["attention", "starter", "-text", "--out", "a"], "write `--prompt=-text`"),
        (["models"], "VERB"),
        (["models", "show", "no-such"], "no-such"),
    ],
)
def test_each_ends_in_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    assert cli.main(arguments) == 2
    sentence = the_sentence(capsys)
    assert expected in sentence and len(sentence) < 600


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--width", "17"], "17"),
        (["--width", "8192", "--height", "8192"], "8192"),
        (["--out", "a.jpg"], "PNG"),
        (["--init", "/nowhere/p.png"], "p.png"),
    ],
)
def test_what_the_checkpoint_or_the_disk_cannot_do(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate("--out", "a.png", *arguments) != 0
    assert expected in the_sentence(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_prompt_in_any_script_of_the_longest_length(tiny: Path, tmp_path: Path) -> None:
    for number, prompt in enumerate(("🍎 تفاحة 赤いりんご " * 500, "\n\t\x00 \u202e", "")):
        out = tmp_path / f"{number}.png"
        assert cli.main(["generate", prompt[:10_000], "--checkpoint", "tiny", "--steps", "1", "--out", str(out)]) == 0
        assert metadata.read(out).request.prompt == prompt[:10_000]


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--prompt=-text", "--out", "o"],
        ["generate", "--out", "o", "--prompt=a", "--prompt=-text"],
        ["generate", "--out", "o", "--", "-text"],
        ["attention", "--prompt=-text", "--out", "o", "starter"],
        ["attention", "starter", "--out", "o", "--", "-text"],
        ["attention", "--prompt=-text", "--out", "o", "--", "starter"],
        ["reverse", "starter", "--out", "o", "--prompt=-text"],
    ],
)
def test_a_prompt_can_begin_with_a_dash(arguments: list[str]) -> None:
    found = cli._parser().parse_args(arguments)
    assert found.prompt == "-text" and getattr(found, "checkpoint", "starter") == "starter"


def test_a_prompt_behind_its_flag_can_be_any_text() -> None:
    for text in ("", "--", "a=b --steps 3", "cat"):
        assert cli._parser().parse_args(["generate", f"--prompt={text}", "--out", "o"]).prompt == text
    assert cli._parser().parse_args(["generate", "--prompt", "cat", "--out", "o"]).prompt == "cat"


def test_a_damaged_checkpoint(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_tiny_checkpoint(paths.checkpoints() / "whole.safetensors").read_bytes()
    cut = paths.checkpoints() / "tiny.safetensors"
    cut.write_bytes(whole[:-100])
    assert generate("--out", tmp_path / "a.png") == 1
    assert "tiny.safetensors is damaged" in the_sentence(capsys)
    assert generate("--out", tmp_path / "a.png", "--checkpoint", str(cut)) == 1
    assert "tiny.safetensors is damaged" in the_sentence(capsys)
    assert not (tmp_path / "a.png").exists()


def test_a_checkpoint_that_answers_no_number(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors", spoil=True)
    code = generate("--out", tmp_path / "a.png")
    assert (code == 0) == (tmp_path / "a.png").exists()
    if code:
        the_sentence(capsys)


def test_a_place_that_cannot_be_written_to(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert generate("--out", tmp_path / "file" / "a.png") == 1
    assert "could not be written" in the_sentence(capsys)
    (tmp_path / "folder.png").mkdir()
    assert generate("--out", tmp_path / "folder.png" / "{seed}.png") == 0
    capsys.readouterr()
    (tmp_path / "folder.png" / "1.png").mkdir()
    assert generate("--out", tmp_path / "folder.png" / "{seed}.png", "--seed", "1") == 2
    assert "is a folder" in the_sentence(capsys)


def test_a_full_disk_leaves_no_half_picture(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Image.Image, file: BinaryIO, **options: Any) -> None:
        file.write(b"\x89PNG half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    (tmp_path / "out").mkdir()
    assert generate("--out", tmp_path / "out" / "a.png") == 1
    assert "the disk is full" in the_sentence(capsys)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mistake_of_ours_is_kept_in_the_log(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("diffstudio.models.library.library.Library.scan", lambda self: 1 / 0)
    assert cli.main(["models", "list"]) == 1
    sentence = the_sentence(capsys)
    assert "division by zero" in sentence and str(home / "log.txt") in sentence
    assert "ZeroDivisionError" in (home / "log.txt").read_text()


def test_it_ends_in_a_sentence_in_a_process_of_its_own_too(home: Path) -> None:
    done = run("generate", "x", "--out", "x.png", "--checkpoint", "no-such")
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.startswith("diffstudio: There is no checkpoint called 'no-such'") and done.stderr.count("\n") == 1
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_generating_cleanly(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "diffstudio",
        "generate",
        "x",
        "--checkpoint",
        "tiny",
        "--steps",
        "1000",
        "--count",
        "1000",
        "--out",
        str(tmp_path / "out" / "{seed}.png"),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step 2 of" in line:
                break
        process.send_signal(number)
        begun = time.monotonic()
        rest = process.stderr.read()
        assert process.wait(timeout=30) == Interrupted.exit_code and time.monotonic() - begun < 10
    assert rest.splitlines()[-1] == "diffstudio: Stopped before all images were finished."
    assert all(file.suffix == ".png" for file in (tmp_path / "out").iterdir())


# Training

TINY_RECIPE = """
format = 1
name = "tiny"
[data]
size = 16
[network]
patch = 8
bottleneck = 8
width = 16
depth = 1
heads = 2
condition_width = 16
conditioning = "none"
[run]
batch = 4
dtype = "float32"
threads = 1
sample_count = 1
sample_steps = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_training_makes_a_checkpoint_that_generates(
    pictures: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = paths.runs() / "dots"
    assert cli.main(["train", str(pictures), "--recipe", str(recipe), "--steps", "3", "--run", str(run_folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{run_folder / 'checkpoints' / 'latest.safetensors'}\n" and "step 3 of 3" in captured.err
    assert f"What is left out of the folder, and why: {run_folder / 'folder.json'}" in captured.err
    assert json.loads((run_folder / "folder.json").read_text())["images"] == len(list(pictures.rglob("*.png")))
    assert generate("--checkpoint", "dots", "--out", tmp_path / "a.png") == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (16, 16)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "file", "truncated"])
def test_folders_that_cannot_be_trained_on(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = tmp_path / kind
    if kind == "file":
        folder.write_text("a file")
    elif kind != "missing":
        folder.mkdir()
    if kind == "text":
        (folder / "a.txt").write_text("nothing to see")
    if kind == "truncated":
        (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    run_folder = tmp_path / "run"
    assert cli.main(["train", str(folder), "--recipe", str(recipe), "--run", str(run_folder)]) == 2
    assert str(folder) in the_sentence(capsys) or kind == "truncated"
    assert not run_folder.exists()


def test_recipes_and_runs_that_cannot_be_used(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text("[network]\nwidht = 3")
    for recipe in (tmp_path / "bad.toml", tmp_path / "none.toml", "no-such"):
        assert cli.main(["train", str(pictures), "--recipe", str(recipe), "--run", str(tmp_path / "run")]) != 0
        the_sentence(capsys)
    assert cli.main(["train", "--resume", "--run", str(tmp_path / "nowhere")]) != 0
    assert str(tmp_path / "nowhere") in the_sentence(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")
def test_a_signal_stops_training_with_a_checkpoint(
    pictures: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = tmp_path / "a run"
    command = [
        sys.executable,
        "-m",
        "diffstudio",
        "train",
        str(pictures),
        "--recipe",
        str(recipe),
        "--steps",
        "1000000",
        "--run",
        str(run_folder),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step "):
                break
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == Interrupted.exit_code
    assert err.splitlines()[-1].startswith("diffstudio: Stopped at step ") and f"--resume --run '{run_folder}'" in err
    assert Path(out.strip()).is_file()
    assert not list(run_folder.rglob("*.part"))


def test_a_lost_folder_of_images_can_be_given(
    pictures: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = tmp_path / "run"
    assert cli.main(["train", str(pictures), "--recipe", str(recipe), "--steps", "1", "--run", str(run_folder)]) == 0
    pictures.rename(tmp_path / "moved")
    assert cli.main(["train", "--clear-cache"]) == 0
    capsys.readouterr()
    again = ["train", "--continue", str(run_folder), "--steps", "1"]
    assert cli.main(again) != 0 and "give it with --folder" in the_sentence(capsys)
    assert cli.main([*again, "--folder", str(tmp_path / "moved")]) == 0


def test_two_processes_do_not_write_one_run(
    pictures: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = tmp_path / "run"
    assert cli.main(["train", str(pictures), "--recipe", str(recipe), "--steps", "1", "--run", str(run_folder)]) == 0
    before = (run_folder / "events.jsonl").read_bytes()
    capsys.readouterr()
    with RunFolder.open(run_folder).locked():
        assert cli.main(["train", "--resume", "--run", str(run_folder)]) == 1
        assert "is already being trained" in the_sentence(capsys)
    assert (run_folder / "events.jsonl").read_bytes() == before
    assert cli.main(["train", str(tmp_path), "--resume", "--run", str(run_folder)]) == BadRequest.exit_code
    assert "was not started on" in the_sentence(capsys)
    assert cli.main(["train", str(pictures), "--resume", "--run", str(run_folder)]) == 0


def test_a_run_is_not_kept_among_its_pictures(pictures: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(pictures.iterdir())
    assert cli.main(["train", str(pictures), "--recipe", str(recipe), "--run", str(pictures / "run")]) == 1
    assert "is inside the folder of images" in the_sentence(capsys)
    assert sorted(pictures.iterdir()) == before


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('device = "meta"', "'meta' cannot be used"),
        ("widht = 3", "Unknown key 'widht'"),
        ("batch = 0", "run.batch is 0"),
    ],
)
def test_recipes_that_say_what_cannot_be(
    pictures: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
) -> None:
    recipe.write_text(TINY_RECIPE.replace("batch = 4\n", "" if line.startswith("batch") else "batch = 4\n") + line)
    assert cli.main(["train", str(pictures), "--recipe", str(recipe), "--run", str(tmp_path / "run")]) != 0
    assert expected in the_sentence(capsys)
    assert not (tmp_path / "run").exists()


def test_a_network_too_large_for_memory(
    pictures: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 51539607552 bytes")

    monkeypatch.setattr("diffstudio.training.run.setup.Trainer", full)
    assert cli.main(["train", str(pictures), "--recipe", str(recipe), "--run", str(tmp_path / "run")]) == 1
    assert "Out of memory during training" in the_sentence(capsys)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_folders_whose_names_are_no_text(home: Path, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(TINY_RECIPE.replace('conditioning = "none"', 'conditioning = "class"'))
    run_folder = tmp_path / os.fsdecode(b"run\xe9")
    for name in (b"caf\xe9", b"tea"):
        folder = tmp_path / "drinks" / os.fsdecode(name)
        folder.mkdir(parents=True)
        Image.new("RGB", (20, 20), "red" if name == b"tea" else "blue").save(folder / os.fsdecode(b"\xe9.png"))
    train(run_folder, tmp_path / "drinks", recipe=str(recipe), steps=1)
    latest = run_folder / "checkpoints" / "latest.safetensors"
    assert read_checkpoint(latest).classes == ("caf?", "tea")
    assert load(latest).network.config.num_classes == 2
    init = tmp_path / "drinks" / "tea" / os.fsdecode(b"\xe9.png")
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    assert generate("--out", tmp_path / "out.png", "--init", init, "--strength", "0.5") == 0
    named = tmp_path / os.fsdecode(b"out\xe9.png")
    done = subprocess.run(
        [sys.executable, "-m", "diffstudio", "generate", "x", "--checkpoint", "tiny", "--steps", "1", "--out", named],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == os.fsencode(named) + b"\n" and named.is_file()


@pytest.mark.parametrize("state", [b"", b"hello", "half", {"step": -5}, {"step": "x"}, {}])
def test_a_damaged_state_is_told(
    pictures: Path,
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    state: bytes | str | dict[str, Any],
) -> None:
    run_folder = tmp_path / "run"
    train(run_folder, pictures, recipe=str(recipe), steps=1)
    file = run_folder / "state.pt"
    match state:
        case bytes():
            file.write_bytes(state)
        case "half":
            file.write_bytes(file.read_bytes()[:-3000])
        case _:
            torch.save(torch.load(file, weights_only=True) | state if state else {}, file)
    assert cli.main(["train", "--resume", "--run", str(run_folder)]) == 1
    assert "state.pt is damaged" in the_sentence(capsys)


def test_a_home_that_nobody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFSTUDIO_HOME", "~nobody-at-all/x")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["models", "show", "no-such"]) == 2
    assert "no-such" in the_sentence(capsys)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("run.json", "the folder of images is missing"), ("tokenizer.json", "tokenizer.json is damaged")],
)
def test_damaged_files_of_a_run_are_told(
    pictures: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, expected: str
) -> None:
    recipe.write_text(TINY_RECIPE.replace('conditioning = "none"', 'conditioning = "text"'))
    for picture in pictures.glob("*.png"):
        picture.with_suffix(".txt").write_text("a picture")
    train(tmp_path / "run", pictures, recipe=str(recipe), steps=1)
    (tmp_path / "run" / name).write_text('{"format": 1}')
    assert cli.main(["train", "--resume", "--run", str(tmp_path / "run")]) == 1
    assert expected in the_sentence(capsys)


def test_what_a_model_is_can_be_said_and_taken_back(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vae = {"decoder.conv_in.weight": (8, 4, 3, 3), "decoder.mid.block_1.conv1.weight": (8, 8, 3, 3)}
    source = write_header(tmp_path / "tiny.safetensors", vae)
    assert cli.main(["models", "import", str(source)]) == 0
    brought = Path(capsys.readouterr().out.strip())
    assert brought.read_bytes() == source.read_bytes() and brought != source
    assert cli.main(["models", "set", "tiny", "--prediction", "v"]) == 0
    assert "predicts v" in capsys.readouterr().out
    assert cli.main(["models", "show", "tiny", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["prediction"] == "v" and about["role"] == "vae" and "Set by you" in about["reason"]
    assert about["auto_v2"] == about["sha256"][:10] and len(about["sha256"]) == 64
    assert cli.main(["models", "set", "tiny", "--clear"]) == 0
    capsys.readouterr()
    assert cli.main(["models", "show", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prediction"] != "v"
    gone = str(tmp_path / "gone")
    for wrong in (["set", "tiny"], ["set", "tiny", "--family", "soup"], ["list", "--role", "soup"], ["import", gone]):
        assert cli.main(["models", *wrong]) != 0
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["models", "list", "--role", "lora"]) == 0
    assert capsys.readouterr() == ("", "There is no model with the role lora.\n")


def test_what_comes_with_the_program_is_listed_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [(row.split()[0], row.split()[-2]) for row in rows] == [("starter", "starter"), ("four-styles", "included")]


@pytest.mark.parametrize("name", ["four-styles", "starter"])
def test_what_a_model_trained_here_is_cannot_be_changed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "set", name, "--family", "sd1"]) == 2
    assert "it was trained with diffstudio, and its header says what it is" in the_sentence(capsys)
    assert not paths.overrides().exists()


def test_a_killed_command_leaves_nothing_beside_its_pictures(tiny: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [
        sys.executable,
        "-m",
        "diffstudio",
        "generate",
        "red apple",
        "--checkpoint",
        "tiny",
        "--steps",
        "1000",
        "--out",
        str(tmp_path / "a.png"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, env=dict(os.environ, TMPDIR=str(temporary)), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "step" not in process.stderr.readline():
            assert process.poll() is None
        process.kill()
    assert not [path for path in temporary.iterdir() if path.name.startswith("diffstudio")]
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".png", ".part")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["p", "--folder", "q"], "--folder is for a run that is resumed"),
        (["--resume", "--run", "r", "--from", "starter"], "--from is for a new run"),
        (["--continue", "r"], "for how long"),
        (["--continue", "r", "--resume", "--steps", "3"], "Both --resume and --continue"),
        (["--resume", "--run", "r", "--steps", "3"], "--continue"),
        (["--continue", "nowhere", "--steps", "3"], "There is no training run in nowhere"),
        (["p", "--from", "nowhere.safetensors", "--run", "r"], "There is no checkpoint nowhere.safetensors"),
    ],
)
def test_options_of_training_that_contradict_each_other(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments]) != 0
    assert expected in the_sentence(capsys)
    assert not any(tmp_path.joinpath(name).exists() for name in ("r", "nowhere"))


def test_the_disk_that_runs_take_is_shown_and_prepared_images_are_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    run, prepared = paths.runs() / "dots", paths.prepared_images()
    for folder, name in ((run, "state.pt"), (prepared, "a.npy")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(3 * 2**20))
    assert cli.main(["train", "--disk"]) == 0
    shown = capsys.readouterr().out
    assert f"3 MiB  {run}" in shown and "free" in shown and (prepared / "a.npy").exists()
    assert cli.main(["train", "--clear-cache"]) == 0
    assert "3 MiB of prepared images deleted" in capsys.readouterr().out
    assert not (prepared / "a.npy").exists() and (run / "state.pt").exists()
