from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio import paths
from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.studio.curves.saved import NamedCurve, delete_curve, find_curve, read_curve, save_curve, saved_curves

CURVE = NoiseCurve(((0.0, 1 / 3 + 9), (0.1, 0.1), (1.0, -9.0)))


def test_saved_found_and_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIFFSTUDIO_HOME", str(tmp_path))
    assert saved_curves().curves == () and find_curve("steep") is None
    steep = NamedCurve("Steep (v2)", CURVE)
    file = save_curve(steep)
    assert file.parent == paths.schedules() and find_curve("steep (V2)") == steep  # to the bit, in any case
    flat = NamedCurve("flat", NoiseCurve(((0.0, 2.0), (1.0, -2.0))))
    save_curve(flat)
    assert saved_curves().curves == (flat, steep)
    again = NamedCurve("STEEP (v2)", flat.curve)
    assert save_curve(again) == file  # one file for one name
    assert [one.curve for one in saved_curves().curves] == [flat.curve, flat.curve]
    delete_curve("FLAT")
    assert find_curve("flat") is None
    with pytest.raises(BadRequest, match="no noise schedule called 'flat'"):
        delete_curve("flat")


def test_names() -> None:
    for bad in ("", "a/b", "../x", " a", "a ", ".hidden", "--help", "x" * 61, "a\0b", 3, "a:b"):
        with pytest.raises(BadRequest, match="cannot be called"):
            NamedCurve(bad, CURVE)  # type: ignore[arg-type]
    assert NamedCurve("Überblick 2, fein", CURVE).name
    with pytest.raises(BadRequest, match="a scheduler has that name"):
        save_curve(NamedCurve("Karras", CURVE), taken=("karras",))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    good = save_curve(NamedCurve("good", CURVE), folder=tmp_path)
    values = json.loads(good.read_text())
    for name, text in (
        ("no json", "{"),
        ("list", "[]"),
        ("newer", json.dumps(values | {"format": 2})),
        ("other", json.dumps(values | {"kind": "other"})),
        ("rising", json.dumps(values | {"points": [[0, 1], [1, 2]]})),
        ("empty", json.dumps(values | {"points": None})),
    ):
        (tmp_path / f"{name}.json").write_text(text)
    found = saved_curves(tmp_path)
    assert [one.name for one in found.curves] == ["good"]
    assert [text.split(".json")[0].split("schedule ")[1] for text in found.problems] == [
        "empty",
        "list",
        "newer",
        "no json",
        "other",
        "rising",
    ]
    assert "Update diffstudio" in found.problems[2] and "does not fall" in found.problems[5]
    with pytest.raises(BadRequest, match="cannot be read"):
        read_curve(tmp_path / "missing.json")
    with pytest.raises(BadRequest, match="not a JSON object"):
        NamedCurve.from_json([])


def test_folders_that_refuse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageProblem, match="could not be written"):
        save_curve(NamedCurve("one", CURVE), folder=tmp_path / "file")
    (tmp_path / "stuck.json").mkdir()
    with pytest.raises(StorageProblem, match="could not be deleted"):
        delete_curve("stuck", tmp_path)
