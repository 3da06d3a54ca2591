"""`diffstudio train FOLDER --dry-run`: the report of the inspection and the recipe, and nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from diffstudio import cli, paths
from diffstudio.cli import dry_run
from diffstudio.cli.terminal import StopFlag
from diffstudio.errors import Interrupted
from diffstudio.training.data import inspect_folder
from diffstudio.training.data.folder_report import InspectionProgress


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for number in range(6):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (40 * number, 0, 0)).save(path)
    (folder / "cat" / "broken\x1b[31m.png").write_text("not an image")
    (folder / "@eaDir").mkdir()
    return folder


@pytest.mark.parametrize("flag", ["--dry-run", "--inspect"])
def test_the_report_in_lines(pictures: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert cli.main(["train", str(pictures), flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 images · 20 px · no captions · 2 classes · 1 cannot be read · 1 left out"
    assert "Each of the 2 classes has 3 images" in lines
    assert any("1 file left out: it is not an image" in line and "\x1b" not in line for line in lines)
    assert any("kept there by another program (@eaDir)" in line for line in lines)
    assert lines[-1].startswith("Recipe: ") and "the 2 subfolders are the classes" in lines[-1]
    assert not paths.runs().exists()


def test_the_report_as_json(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(pictures), "--dry-run", "--json", "--recipe", "tiny"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["images"] == 6 and values["classes"] == {"cat": 3, "dog": 3}
    assert [(finding["kind"], finding["count"]) for finding in values["findings"]] == [("left out", 1), ("left out", 1)]
    assert values["recipe"]["network"]["conditioning"] == "class" and "subfolders" in values["recipe"]["why"]


def test_images_that_the_recipe_cannot_use_are_named_and_a_folder_of_them_is_refused(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strip = pictures / "dog" / "strip.png"
    Image.new("RGB", (20, 4000)).save(strip)
    assert cli.main(["train", str(pictures), "--dry-run"]) == 0
    left_out = "1 file left out: of its 20 × 4,000 px only 0.5% would be left (dog/strip.png)"
    assert left_out in capsys.readouterr().out.splitlines()
    for image in pictures.rglob("[0-9].png"):
        image.unlink()
    assert cli.main(["train", str(pictures), "--dry-run"]) != 0
    shown = capsys.readouterr()
    assert left_out in shown.out and "There is nothing to train on" in shown.err and "fit to pad" in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json"], "Add --dry-run"),
        (["--dry-run", "--resume", "--run", "x"], "without --resume"),
        (["--dry-run", "--recipe", "huge"], "no recipe named"),
    ],
)
def test_what_cannot_be_asked_for(
    pictures: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert cli.main(["train", str(pictures), *arguments]) != 0
    assert said in capsys.readouterr().err


def test_a_signal_ends_the_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(folder: Path) -> Iterator[InspectionProgress]:
        while True:
            yield InspectionProgress(1, 0, Path("a.png"))

    monkeypatch.setattr(inspect_folder, "inspect_folder", endless)
    stop = StopFlag()
    stop.set()
    with pytest.raises(Interrupted, match="inspection was stopped"):
        dry_run._inspected(Path("p"), stop)
