"""No verb of the Lab writes into a folder whose images it reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffstudio import cli, paths
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.models.library.library import Library
from diffstudio.studio.evaluations.anomalies.anomalies import anomalies
from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
from diffstudio.studio.evaluations.compare.compare import compare
from diffstudio.studio.evaluations.compare.request import CompareRequest
from diffstudio.studio.evaluations.evaluate import evaluate
from diffstudio.studio.evaluations.image_map.image_map import image_map
from diffstudio.studio.evaluations.image_map.request import MapRequest
from diffstudio.studio.evaluations.likelihood.likelihood import likelihood
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.place import scratch_folder
from diffstudio.studio.evaluations.request import EvaluateRequest
from diffstudio.studio.evaluations.synthesise.request import SynthesiseRequest
from diffstudio.studio.evaluations.synthesise.synthesise import synthesise

NAMES = ("photos", "others")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders of images, with a caption called as the request of a job."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16)).save(tmp_path / name / "request.png")
        (tmp_path / name / "request.json").write_text('{"caption": "A square"}')
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "photos", "others"],
        ["anomalies", "photos", "others"],
        ["likelihood", "nothing", "photos"],
        ["map", "photos", "others"],
        ["synthesise", "nothing", "5", "photos"],
        ["compare", "photos", "--minutes", "1", "--models", "none", "--with", "others"],
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("inside", [".", "new"])
def test_a_command_leaves_no_file_there(arguments: list[str], inside: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in set(arguments) & set(NAMES):
        before = contents(Path(name))
        assert cli.main([*arguments, "--out", str(Path(name, inside))]) == BadRequest.exit_code
        assert "The result cannot be written to" in capsys.readouterr().err and contents(Path(name)) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda out: evaluate(EvaluateRequest(("photos",), Path("others"), out=out), Library()),
        lambda out: anomalies(AnomaliesRequest(Path("photos"), Path("others"), out=out), Library()),
        lambda out: compare(CompareRequest(Path("photos"), 1, models=(), subjects=("others",), out=out), Library()),
        lambda out: likelihood(LikelihoodRequest("nothing", Path(out.parts[0]), out=out), Library()),
        lambda out: synthesise(SynthesiseRequest("nothing", Path(out.parts[0]), out, 5), Library()),
        lambda out: image_map(MapRequest(("photos",), Path("others"), out=out), Library()),
    ],
    ids=["evaluate", "anomalies", "compare", "likelihood", "synthesise", "map"],
)
@pytest.mark.parametrize("name", NAMES)
def test_an_engine_leaves_no_file_there(call: Callable[[Path], Any], name: str) -> None:
    before = contents(Path(name))
    with pytest.raises(BadRequest, match="cannot be written to"):
        call(Path(name, "new"))
    assert contents(Path(name)) == before


def test_files_of_a_job_are_gone_at_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with scratch_folder("test") as path:
        (Path(path) / "features").touch()
        assert Path(path).parent == paths.cache() and Path(path).name.startswith("scratch-test-")
    assert not Path(path).exists()
    (tmp_path / "file").touch()
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "file")
    with pytest.raises(StorageProblem), scratch_folder("test"):
        pass


def test_files_of_a_job_that_was_killed_are_gone_once_another_begins(tmp_path: Path) -> None:
    killed, made_now, ours = (paths.cache() / f"scratch-test-{name}" for name in ("killed", "made now", "no lock"))
    for folder in (killed, made_now, ours):
        folder.mkdir(parents=True)
        (folder / "features").touch()
    for folder in (killed, made_now):
        (folder / ".lock").touch()
    os.utime(killed / ".lock", (0, 0))
    with scratch_folder("test") as first:
        os.utime(Path(first) / ".lock", (0, 0))
        with scratch_folder("test") as second:
            assert Path(first).is_dir() and Path(second).is_dir() and made_now.is_dir() and ours.is_dir()
            assert not killed.exists()
