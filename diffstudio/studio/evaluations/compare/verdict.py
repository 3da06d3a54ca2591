"""Verdicts on fidelity, diversity, copying and mode collapse, each with the measures it is based on. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import isinf

from diffstudio.errors import listed
from diffstudio.evaluation.interval import Interval
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.compare.result import Entry, Finding, Verdict, cell, over_seeds

GOOD, FAIR, POOR, UNKNOWN = "good", "fair", "poor", "unknown"
_WORST_FIRST = (POOR, FAIR, GOOD, UNKNOWN)
_NEAR = 0.9  # share of the value of real images
_FAR = 0.6
_COLLAPSED = 0.3  # likewise, for recall, modes and the part of the Vendi score above 1
_DISTANCES = 1.5, 2.5  # multiples of the Fréchet distance of real images: near, far
_ALL_ALIKE = 0.1  # of the part of the Vendi score above 1; less than too little training explains
_FEW_COPIES = 0.02  # above the false-alarm rate of the tests
_CLASSES_NAMED = 5
_NO_COLLAPSE = "No mode collapse."
_TOO_POOR = "Less diverse than real images, but while they look like this, too little training explains it as well as mode collapse."
_DIFFERENT = (
    "No sign of mode collapse: the images differ among themselves. While few look like real ones, coverage, recall and "
    "modes cannot tell."
)
_AMONG = "By their features most images lie among real ones"


def verdict(model: str, entries: Sequence[Entry], real: Entry | None) -> Verdict:
    """The verdict on one model: each seed is judged by its own measures, and the worst seed decides.

    Without a table only copying can be judged.
    """
    has_table = real is not None and any(entry.compared for entry in entries)
    by_seed = [_findings(entry, real, has_table) for entry in entries]
    return Verdict(model, tuple(_worst(entries, findings, real) for findings in zip(*by_seed, strict=True)))


def _findings(entry: Entry, real: Entry | None, has_table: bool) -> list[Finding]:
    if not has_table:
        return [_copying(_Figures(entry, real))]
    figures = _Figures(entry, real)
    fidelity = _fidelity(figures)
    findings = [fidelity, _diversity(figures), _copying(figures), _collapse(figures, entry, fidelity.grade)]
    if real is None or not entry.compared or entry.compared == real.compared:
        return findings
    sentence = f"{count_of(entry.compared, 'image')} cannot be compared with {count_of(real.compared, 'real one')}."
    return [one if one.aspect == "copying" else replace(one, grade=UNKNOWN, sentence=sentence) for one in findings]


def evidence_of(entries: Sequence[Entry], real: Entry | None) -> str:
    """All measures of a model that its verdicts are based on, in one line: over its seeds, or of its only one."""
    figures = _Figures.over(entries, real)
    found = ", ".join(figures.measures(*_TITLES, real_images=""))
    if not found:
        return ""
    seeds = _measured(entries)
    of = f"Mean of {seeds} seeds (lowest…highest" if seeds > 1 else "Value (95% interval"
    return f"{of}; real images): {found}"


def _worst(entries: Sequence[Entry], findings: Sequence[Finding], real: Entry | None) -> Finding:
    """One finding for all seeds on one aspect: the worst known grade, its number of seeds, and the measures of all."""
    grade = min((one.grade for one in findings), key=_WORST_FIRST.index)
    chosen = [one for one in findings if one.grade == grade]
    sentences = Counter(one.sentence for one in chosen)
    known = sum(one.grade != UNKNOWN for one in findings)
    if len(sentences) == 1 and len(chosen) == len(findings):
        text = chosen[0].sentence
    else:
        text = " ".join(f"In {count} of {len(findings)} seeds: {one}" for one, count in sentences.items())
    if 0 < known < len(findings):
        text += f" Unknown in {len(findings) - known} of {len(findings)} seeds."
    aspect = chosen[0].aspect
    evidence = ", ".join(_Figures.over(entries, real).measures(*_MEASURES_OF[aspect]))
    if (seeds := _measured(entries)) > 1:
        evidence = f"mean of {seeds} seeds (lowest…highest): {evidence}"
    return Finding(aspect, grade, text, evidence)


def _measured(entries: Sequence[Entry]) -> int:
    return sum(bool(entry.figures) for entry in entries)


class _Figures:
    """The measures of a seed and those of real images."""

    def __init__(self, entry: Entry, real: Entry | None) -> None:
        self._entry, self._real = entry, real

    @classmethod
    def over(cls, entries: Sequence[Entry], real: Entry | None) -> _Figures:
        """The mean over the seeds of a model with the lowest and highest; of a single seed its own measures."""
        each = {name: [entry.figures[name] for entry in entries if name in entry.figures] for name in _TITLES}
        found = {name: interval for name, values in each.items() if (interval := over_seeds(values)) is not None}
        return cls(replace(entries[0], figures=found), real)

    def of(self, name: str) -> Interval | None:
        return self._entry.figures.get(name)

    def real(self, name: str) -> Interval | None:
        return self._real.figures.get(name) if self._real is not None else None

    def share(self, name: str) -> float | None:
        """The value as a share of that of real images; None if either is unknown."""
        one, other = self.of(name), self.real(name)
        return one.value / other.value if one is not None and other is not None and other.value else None

    def measures(self, *names: str, real_images: str = "real images ") -> list[str]:
        """The known ones of these measures as text: `recall 0.82 (0.79…0.85; real images 0.96)`."""
        parts = []
        for name in names:
            one, other = self.of(name), self.real(name)
            if one is None or isinf(one.low):  # a support without a bound says nothing
                continue
            value, spread = cell(one)
            beside = f"; {real_images}{cell(other)[0]}" if other is not None else ""
            parts.append(f"{_TITLES[name]} {value} ({spread}{beside})")
        return parts


def _fidelity(figures: _Figures) -> Finding:
    """The finding on fidelity. Density beside precision: a few odd real images make blobs precise (2002.09797)."""
    precision, density, distance = (figures.share(name) for name in ("precision", "density", "frechet_distance"))
    grade, sentence = UNKNOWN, "The fidelity of the images could not be measured."
    if precision is not None and distance is not None:
        near, far = _DISTANCES
        lowest = min(precision, density) if density is not None else precision
        if lowest < _FAR:
            grade, sentence = POOR, "Many images do not look like real ones."
        elif distance > far:
            grade, sentence = POOR, f"{_AMONG}, but their distribution is far from that of real images."
        elif lowest >= _NEAR and distance <= near:
            grade, sentence = GOOD, "The images look real."
        else:
            grade, sentence = FAIR, f"{_AMONG}, but their distribution differs from that of real images."
        if distance < 1:
            sentence += " The FID is below that of real images, which can be a sign of copies."
    return Finding("fidelity", grade, sentence)


def _diversity(figures: _Figures) -> Finding:
    shares = [share for name in ("recall", "coverage") if (share := figures.share(name)) is not None]
    grade, sentence = UNKNOWN, "The diversity of the images could not be measured."
    if shares:
        lowest = min(shares)
        if lowest >= _NEAR:
            grade, sentence = GOOD, "The images are about as diverse as real ones."
        elif lowest >= _FAR:
            grade, sentence = FAIR, "Part of the variety of real images is missing."
        else:
            grade, sentence = POOR, "Most of the variety of real images is missing."
    return Finding("diversity", grade, sentence)


def _copying(figures: _Figures) -> Finding:
    copies, nearer, all_copied = (
        figures.of("copies"),
        figures.of("nearer_to_training"),
        figures.real("nearer_to_training"),
    )
    grade, sentence = UNKNOWN, "No test for copies could be done."
    leaning = _leaning(nearer, all_copied)
    if copies is not None:
        if copies.low > _FEW_COPIES:
            grade, sentence = POOR, f"{copies.value:.0%} of the images are copies of training images."
        elif leaning is not None and leaning >= 0.5:
            grade = FAIR
            sentence = (
                "No single image is a copy, but as a set they are as near to the training images as copies would be."
            )
        elif leaning is None and nearer is not None and nearer.low > 0.6:
            grade, sentence = (
                FAIR,
                "No single image is a copy, but more are nearer to training than to held-out images.",
            )
        elif copies.value > _FEW_COPIES:
            grade, sentence = FAIR, "There may be copies of training images; too few images were generated to be sure."
        else:
            grade, sentence = GOOD, "No sign of copied training images."
    return Finding("copying", grade, sentence)


def _leaning(nearer: Interval | None, all_copied: Interval | None) -> float | None:
    """Where `nearer` lies between 0.5 (no copies) and its value if everything were copied; None if unknown."""
    if nearer is None or all_copied is None or all_copied.value <= 0.5:
        return None
    return (nearer.value - 0.5) / (all_copied.value - 0.5) if nearer.low > 0.5 else 0.0


def _collapse(figures: _Figures, entry: Entry, fidelity: str) -> Finding:
    """The finding on mode collapse: few kinds of images, or images all alike.

    Images of poor fidelity have low coverage, recall and modes however diverse they are, as blobs and noise show; they are
    said to have collapsed only if they are all alike. A low recall alone is that of blurred images too: while most modes
    of real images occur, images have collapsed only if they hardly differ.
    """
    recall, coverage, modes = (figures.share(name) for name in ("recall", "coverage", "modes"))
    alike = _within_classes(entry)
    if alike is None:
        alike = _of_all(figures)
    few = [share for share in (recall, modes) if share is not None]
    grade, sentence = UNKNOWN, "Mode collapse could not be assessed."
    missing = sorted(entry.missing_classes)
    if coverage is not None and few:
        narrow = [name for name, share in _shares_by_class(entry).items() if share < _COLLAPSED]
        low = coverage < _FAR and min(few) < _COLLAPSED
        if fidelity == POOR and alike is not None:
            collapsed = low and alike < _ALL_ALIKE
        else:
            few_kinds = modes is None or modes < _FAR
            little = alike is None or alike < _FAR or recall is not None and recall < 0.1
            collapsed = low and (few_kinds and little or alike is not None and alike < _COLLAPSED)
        if collapsed:
            grade, sentence = POOR, "Collapsed: the model generates only a few kinds of images."
        elif missing:
            grade, sentence = POOR, f"Classes are missing: no image shows {listed(missing, _CLASSES_NAMED)}."
        elif narrow:
            grade, sentence = FAIR, f"Collapsed within classes: {listed(narrow, _CLASSES_NAMED)}."
        elif fidelity == POOR and alike is not None:
            grade, sentence = (FAIR, _TOO_POOR) if alike < _FAR else (GOOD, _DIFFERENT if low else _NO_COLLAPSE)
        elif alike is not None and alike < _FAR or coverage < _FAR and min(few) < _FAR:
            grade, sentence = FAIR, "Signs of mode collapse: the images are less diverse than real ones."
        else:
            grade, sentence = GOOD, _NO_COLLAPSE
    return Finding("mode collapse", grade, sentence)


def _within_classes(entry: Entry) -> float | None:
    """(Vendi - 1) / (Vendi of real images - 1) within classes, averaged; None without classes."""
    shares = _shares_by_class(entry).values()
    return sum(shares) / len(shares) if shares else None


def _of_all(figures: _Figures) -> float | None:
    """(Vendi - 1) / (Vendi of real images - 1) over all images; None if either is unknown."""
    one, other = figures.of("vendi"), figures.real("vendi")
    return _share(one.value, other.value) if one is not None and other is not None else None


def _shares_by_class(entry: Entry) -> dict[str, float]:
    """(Vendi - 1) / (Vendi of real images - 1) for each class."""
    return {name: _share(one.vendi, one.real_vendi) for name, one in sorted(entry.by_class.items())}


def _share(vendi: float, real_vendi: float) -> float:
    return min(1.0, (vendi - 1) / (real_vendi - 1)) if real_vendi > 1 else 1.0


_TITLES = {
    "precision": "precision",
    "density": "density",
    "recall": "recall",
    "coverage": "coverage",
    "frechet_distance": "FID",
    "kernel_distance": "KID",
    "modes": "modes",
    "vendi": "Vendi",
    "class_vendi": "Vendi in a class",
    "support": "support",
    "copies": "copies",
    "nearer_to_training": "nearer to training",
    "loss_gap": "loss gap",
}
_MEASURES_OF = {
    "fidelity": ("precision", "density", "frechet_distance", "kernel_distance", "recall", "coverage"),
    "diversity": ("recall", "coverage", "modes", "vendi", "class_vendi"),
    "copying": ("copies", "nearer_to_training", "loss_gap"),
    "mode collapse": ("coverage", "recall", "modes", "vendi", "class_vendi", "support"),
}
