"""Print coverage per package and check the perfect files: `python packaging/check_coverage.py REPORT.json`.

REPORT is the output of `coverage json`. Files that match a line of perfect_files.txt must have every line and branch
covered; the exit code is 1 if one has not.
"""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

PERFECT = Path(__file__).with_name("perfect_files.txt")


def main(arguments: list[str]) -> int:
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    patterns = [
        line for line in PERFECT.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")
    ]
    for name, (covered, total) in sorted(by_package(report["files"]).items()):
        print(f"{covered / total if total else 1:7.1%}  {name}")
    imperfect = [
        f"{name}: {missing(file)}"
        for name, file in sorted(report["files"].items())
        if any(fnmatch(name, pattern) for pattern in patterns) and missing(file)
    ]
    unused = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in report["files"])]
    for line in imperfect:
        print(f"Not fully covered: {line}")
    for pattern in unused:
        print(f"perfect_files.txt names {pattern}, which no file matches")
    return 1 if imperfect or unused else 0


def by_package(files: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The covered and the total number of lines and branches of each package."""
    counts: dict[str, tuple[int, int]] = {}
    for name, file in files.items():
        about = file["summary"]
        covered = about["covered_lines"] + about["covered_branches"]
        total = about["num_statements"] + about["num_branches"]
        before = counts.get(package := str(Path(name).parent), (0, 0))
        counts[package] = (before[0] + covered, before[1] + total)
    return counts


def missing(file: dict[str, Any]) -> str:
    """The uncovered lines and branches, as `lines 3, 7, branches 12->14`; empty if there are none."""
    lines, branches = file["missing_lines"], file["missing_branches"]
    parts = [f"lines {', '.join(map(str, lines))}"] if lines else []
    if branches:
        parts.append("branches " + ", ".join(f"{start}->{end}" for start, end in branches))
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
