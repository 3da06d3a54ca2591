"""What the tests and the programs that they start have covered, counted together."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import coverage
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "check_coverage.py"
NAME = "diffstudio/diffusion/noise.py"  # any file that has to be perfect


@pytest.fixture
def check_coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_coverage_under_test", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    patterns = tmp_path / "perfect_files.txt"
    patterns.write_text("# a comment\ndiffstudio/diffusion/*.py\n")
    monkeypatch.setattr(module, "PERFECT", patterns)
    return module


def report(missing_lines: list[int], missing_branches: list[list[int]]) -> dict[str, Any]:
    lines = [line for line in (1, 2, 3, 4) if line not in missing_lines]
    branches = [branch for branch in ([2, 3], [2, 0]) if branch not in missing_branches]
    return {
        "executed_lines": lines,
        "missing_lines": missing_lines,
        "executed_branches": branches,
        "missing_branches": missing_branches,
    }


def write_workers(folder: Path, **files: Any) -> None:
    (folder / "workers.json").write_text(json.dumps({"files": {NAME: report(**files)}}))


def write_children(folder: Path, arcs: list[tuple[int, int]]) -> None:
    data = coverage.CoverageData(str(folder / "children.1"))
    data.add_arcs({str(SCRIPT.parents[1] / NAME): arcs})
    data.write()


def test_what_a_child_process_has_covered_counts(check_coverage: ModuleType) -> None:
    merged = check_coverage.FileCoverage.of(report([3], [[2, 3]]))
    merged.add(check_coverage.FileCoverage.of(report([2, 4], [[2, 0]])))
    assert merged.missing == "" and merged.counts == (6, 6)


def test_uncovered_lines_and_branches_are_named(check_coverage: ModuleType) -> None:
    file = check_coverage.FileCoverage.of(report([3, 4], [[2, 3]]))
    assert file.missing == "lines 3, 4, branches 2->3" and file.counts == (3, 6)


def test_leaving_a_function_is_one_branch_in_both_programs(check_coverage: ModuleType) -> None:
    file = check_coverage.FileCoverage.of(report([], [[2, 0]]))
    seen = {"executed_lines": [], "missing_lines": [], "executed_branches": [[2, -1]], "missing_branches": []}
    file.add(check_coverage.FileCoverage.of(seen))
    assert file.missing == ""


def test_perfect_files_fail_below_all(
    check_coverage: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(SCRIPT.parents[1])
    write_workers(tmp_path, missing_lines=[], missing_branches=[])
    write_children(tmp_path, [(-1, 8), (8, -1)])
    assert check_coverage.main([str(tmp_path)]) == 0
    write_workers(tmp_path, missing_lines=[3], missing_branches=[])
    write_children(tmp_path, [(-1, 8), (8, -1)])
    assert check_coverage.main([str(tmp_path)]) == 1
    assert f"Not fully covered: {NAME}: lines 3" in capsys.readouterr().out
