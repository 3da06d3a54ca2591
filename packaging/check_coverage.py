"""Print coverage per package and check the perfect files: `python packaging/check_coverage.py FOLDER`.

FOLDER has slipcover's report on the test processes, `workers.json`, and the data files of coverage.py on their child
processes, `children.*`. What either has seen is covered. Files that match a line of perfect_files.txt must have every line
and branch covered; the exit code is 1 if one has not.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import coverage

PERFECT = Path(__file__).with_name("perfect_files.txt")
EXIT = 0  # where a branch leaves a function, in slipcover's reports; coverage.py writes a negative number


@dataclass
class FileCoverage:
    lines: set[int]
    branches: set[tuple[int, int]]  # from line, to line
    missing_lines: set[int]
    missing_branches: set[tuple[int, int]]

    @classmethod
    def of(cls, file: dict[str, Any]) -> FileCoverage:
        """From the entry of a file in a report."""
        branches, missing = (
            {(start, max(end, EXIT)) for start, end in file[name]} for name in ("executed_branches", "missing_branches")
        )
        return cls(set(file["executed_lines"]), branches, set(file["missing_lines"]), missing)

    def add(self, other: FileCoverage) -> None:
        """What another process has covered too. The two programs number some lines and branches differently."""
        for covered, missing, more in (
            (self.lines, self.missing_lines, other.lines),
            (self.branches, self.missing_branches, other.branches),
        ):
            covered |= missing & more  # type: ignore[operator]
            missing -= more  # type: ignore[operator]

    @property
    def counts(self) -> tuple[int, int]:
        """The number of covered lines and branches, and of all."""
        covered = len(self.lines) + len(self.branches)
        return covered, covered + len(self.missing_lines) + len(self.missing_branches)

    @property
    def missing(self) -> str:
        """The uncovered lines and branches, as `lines 3, 7, branches 12->14`; empty if there are none."""
        parts = [f"lines {', '.join(map(str, sorted(self.missing_lines)))}"] if self.missing_lines else []
        if self.missing_branches:
            parts.append("branches " + ", ".join(f"{start}->{end}" for start, end in sorted(self.missing_branches)))
        return ", ".join(parts)


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    files = read_report(folder / "workers.json")
    for name, file in read_report(report_of_children(folder)).items():
        if name in files:
            files[name].add(file)
        else:
            files[name] = file
    patterns = [
        line for line in PERFECT.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")
    ]
    for package, (covered, total) in sorted(by_package(files).items()):
        print(f"{covered / total if total else 1:7.1%}  {package}")
    imperfect = [
        f"{name}: {file.missing}"
        for name, file in sorted(files.items())
        if any(fnmatch(name, pattern) for pattern in patterns) and file.missing
    ]
    unused = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in files)]
    for line in imperfect:
        print(f"Not fully covered: {line}")
    for pattern in unused:
        print(f"perfect_files.txt names {pattern}, which no file matches")
    return 1 if imperfect or unused else 0


def read_report(path: Path) -> dict[str, FileCoverage]:
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {name: FileCoverage.of(file) for name, file in files.items()}


def report_of_children(folder: Path) -> Path:
    report, measured = folder / "child_processes.json", coverage.Coverage(data_file=str(folder / "children"))
    measured.combine([str(folder)])
    measured.save()
    measured.json_report(outfile=str(report))
    return report


def by_package(files: dict[str, FileCoverage]) -> dict[str, tuple[int, int]]:
    """The covered and the total number of lines and branches of each package."""
    counts: dict[str, tuple[int, int]] = {}
    for name, file in files.items():
        before = counts.get(package := str(Path(name).parent), (0, 0))
        counts[package] = (before[0] + file.counts[0], before[1] + file.counts[1])
    return counts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
