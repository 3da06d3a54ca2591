"""Verdicts on the figures that were measured on digits: what collapsed is called collapsed, what copied a copy."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from diffstudio.evaluation.interval import Interval
from diffstudio.evaluation.report import REAL
from diffstudio.studio.evaluations.compare.result import Entry, Finding, OfClass
from diffstudio.studio.evaluations.compare.verdict import evidence_of, verdict
from tests.studio.evaluations.compare.examples import around, entry


def findings(name: str) -> dict[str, Finding]:
    return {one.aspect: one for one in verdict(name, [entry(name)], entry(REAL)).findings}


@pytest.mark.parametrize(
    ("name", "grades"),
    [
        ("flow, 1,000 steps", ("fair", "fair", "good", "good")),
        ("flow, 20,000 steps", ("good", "good", "poor", "good")),
        ("r3gan", ("good", "good", "good", "good")),
        ("non-saturating gan", ("poor", "poor", "good", "poor")),
        ("noise", ("poor", "poor", "good", "good")),
    ],
)
def test_what_is_known_of_each(name: str, grades: tuple[str, ...]) -> None:
    found = findings(name)
    assert tuple(found) == ("fidelity", "diversity", "copying", "mode collapse")
    assert tuple(one.grade for one in found.values()) == grades


def test_collapse_and_copies_are_called_so_and_a_distance_below_the_real_one_is_suspicious() -> None:
    assert findings("non-saturating gan")["mode collapse"].sentence.startswith("Collapsed:")
    copied = findings("flow, 20,000 steps")
    assert copied["copying"].sentence == "14% of the images are copies of training images."
    assert "sign of copies" in copied["fidelity"].sentence


BLOBS = {  # of emoji after three minutes of training: diffusion, VAE, GAN; and after five
    REAL: (52.4, 0.868, 1.073, 0.884, 0.950, 0.636, 22.2),
    "diffusion": (148.9, 0.689, 0.777, 0.009, 0.408, 0.409, 8.76),
    "vae": (214.9, 0.882, 0.462, 0.000, 0.129, 0.136, 4.21),
    "gan": (332.8, 0.159, 0.032, 0.000, 0.005, 0.091, 1.60),
    "diffusion, five minutes": (119.2, 0.660, 0.654, 0.043, 0.447, 0.523, 11.64),
}


def blobs(name: str) -> Entry:
    names = ("frechet_distance", "precision", "density", "recall", "coverage", "modes", "vendi")
    return Entry(
        name, name, None, 441, 441, {one: around(value) for one, value in zip(names, BLOBS[name], strict=True)}
    )


@pytest.mark.parametrize(("name", "collapse"), [("diffusion", "fair"), ("vae", "fair"), ("gan", "poor")])
def test_blobs_do_not_look_real_and_have_collapsed_only_if_all_are_alike(name: str, collapse: str) -> None:
    found = {one.aspect: one for one in verdict(name, [blobs(name)], blobs(REAL)).findings}
    assert found["fidelity"].grade == "poor"
    assert found["mode collapse"].grade == collapse
    assert ("too little training explains it" in found["mode collapse"].sentence) == (collapse == "fair")


def test_images_of_most_kinds_have_not_collapsed_however_low_their_recall() -> None:
    """Blurred images have next to no recall. A generator of a few kinds of images has few of the modes too."""
    blurred = blobs("diffusion, five minutes")
    found = {one.aspect: one for one in verdict("diffusion", [blurred], blobs(REAL)).findings}
    assert found["fidelity"].grade == "fair"
    assert found["mode collapse"].sentence == "Signs of mode collapse: the images are less diverse than real ones."
    few = replace(blurred, figures=dict(blurred.figures) | {"modes": around(0.3)})
    assert verdict("diffusion", [few], blobs(REAL)).findings[3].sentence.startswith("Collapsed:")
    alike = replace(blurred, figures=dict(blurred.figures) | {"vendi": around(3.0)})
    assert verdict("diffusion", [alike], blobs(REAL)).findings[3].sentence.startswith("Collapsed:")


def test_noise_is_not_called_collapsed_whatever_its_recall() -> None:
    noise = entry("noise")
    figures = dict(noise.figures) | {"recall": Interval(0.0, 0.0, 0.01)}
    found = verdict("noise", [replace(noise, figures=figures)], entry(REAL)).findings
    assert [one.grade for one in found] == ["poor", "poor", "good", "good"]
    assert found[3].sentence.startswith("No sign of mode collapse: the images differ among themselves.")


def test_no_evidence_has_the_distance_or_the_precision_alone() -> None:
    for name in ("r3gan", "non-saturating gan"):
        for finding in findings(name).values():
            if "FID" in finding.evidence or "precision" in finding.evidence:
                assert "recall" in finding.evidence and "coverage" in finding.evidence
    assert "recall 0.000 (−0.010…0.010; real images 0.964)" in findings("non-saturating gan")["fidelity"].evidence


def test_images_as_near_as_copies_of_everything_are_noticed_where_no_single_one_is_a_copy() -> None:
    figures = dict(entry("r3gan").figures) | {"nearer_to_training": Interval(0.666, 0.64, 0.69)}
    found = verdict("flow", [replace(entry("r3gan"), figures=figures)], entry(REAL)).findings
    copying = next(one for one in found if one.aspect == "copying")
    assert copying.grade == "fair" and "as near to the training images as copies would" in copying.sentence


def test_a_class_that_is_missing_or_narrow_is_named() -> None:
    def collapse(**changes: object) -> Finding:
        changed = replace(entry("r3gan"), **changes)  # type: ignore[arg-type]
        return verdict("gan", [changed], entry(REAL)).findings[-1]

    assert collapse(missing_classes=("7",)).sentence == "Classes are missing: no image shows 7."
    narrow = collapse(by_class={"3": OfClass(1.1, 1.6, 0.9), "4": OfClass(1.6, 1.6, 0.9)})
    assert (narrow.grade, narrow.sentence) == ("fair", "Collapsed within classes: 3.")


def test_without_a_table_only_copying_is_judged() -> None:
    few = replace(entry("r3gan"), compared=0, figures={"copies": Interval(0.5, 0.4, 0.6)})
    found = verdict("gan", [few], None)
    assert [(one.aspect, one.grade) for one in found.findings] == [("copying", "poor")]
    nothing = verdict("gan", [replace(few, figures={})], None)
    assert nothing.findings[0].grade == "unknown"


def seeds(**changes: object) -> list[Entry]:
    """Three seeds, of which the second has these changes."""
    found = [entry("r3gan", "gan", seed) for seed in range(3)]
    found[1] = replace(found[1], **changes)  # type: ignore[arg-type]
    return found


def test_a_single_seed_that_copies_decides_beside_the_spread_of_all() -> None:
    copies = dict(entry("r3gan").figures) | {"copies": Interval(0.3, 0.26, 0.34)}
    copying = verdict("gan", seeds(figures=copies), entry(REAL)).findings[2]
    assert (copying.aspect, copying.grade) == ("copying", "poor")
    assert copying.sentence == "In 1 of 3 seeds: 30% of the images are copies of training images."
    usual = entry("r3gan").figures["copies"].value
    mean = (0.3 + 2 * usual) / 3
    assert copying.evidence.startswith(
        f"mean of 3 seeds (lowest…highest): copies {mean:.3f} ({usual:.3f}…0.300; real images "
    )


def test_a_single_seed_that_collapsed_or_misses_a_class_decides() -> None:
    collapsed = entry("non-saturating gan")
    found = verdict("gan", seeds(figures=collapsed.figures, by_class=collapsed.by_class), entry(REAL)).findings
    assert [one.grade for one in found] == ["poor", "poor", "good", "poor"]
    assert found[3].sentence.startswith("In 1 of 3 seeds: Collapsed:")
    missing = verdict("gan", seeds(missing_classes=("7",)), entry(REAL)).findings[3]
    assert missing.sentence == "In 1 of 3 seeds: Classes are missing: no image shows 7."


def test_seeds_differ_without_making_each_others_figures_uncertain() -> None:
    copies = [Interval(value, value - 0.002, value + 0.002) for value in (0.001, 0.05, 0.09)]
    entries = [
        replace(one, figures=dict(one.figures) | {"copies": share}) for one, share in zip(seeds(), copies, strict=True)
    ]
    copying = verdict("gan", entries, entry(REAL)).findings[2]
    assert copying.grade == "poor" and copying.sentence.count("In 1 of 3 seeds: ") == 2
    assert "copies 0.047 (0.001…0.090;" in copying.evidence


def test_seeds_that_agree_are_one_sentence_and_what_was_not_measured_is_said() -> None:
    assert verdict("gan", seeds(), entry(REAL)).findings[3].sentence == "No mode collapse."
    failed = verdict("gan", seeds(figures={}, by_class={}, compared=0), entry(REAL)).findings[3]
    assert failed.grade == "good"
    assert failed.sentence == "In 2 of 3 seeds: No mode collapse. Unknown in 1 of 3 seeds."


def test_one_line_has_all_measures_of_a_model_over_its_seeds() -> None:
    three = seeds(figures=dict(entry("r3gan").figures) | {"recall": Interval(0.5, 0.4, 0.6)})
    line, real = evidence_of(three, entry(REAL)), entry(REAL).figures["recall"].value
    recall = entry("r3gan").figures["recall"].value
    assert line.startswith("Mean of 3 seeds (lowest…highest; real images): precision ")
    assert f"recall {(0.5 + 2 * recall) / 3:.3f} (0.500…{recall:.3f}; {real:.3f})" in line
    alone = evidence_of(three[1:2], entry(REAL))
    assert alone.startswith("Value (95% interval; real images): ") and "recall 0.500 (0.400…0.600;" in alone
    two = [replace(three[0], figures={}), three[1], three[2]]
    assert evidence_of(two, entry(REAL)).startswith("Mean of 2 seeds"), "one seed was not measured"
    assert evidence_of([replace(three[0], figures={})], entry(REAL)) == ""
    endless = replace(three[0], figures={"support": Interval(inf, inf, inf), "recall": Interval(0.5, 0.4, 0.6)})
    assert evidence_of([endless], None) == "Value (95% interval; real images): recall 0.500 (0.400…0.600)"


def test_a_row_of_another_number_of_images_is_not_judged_by_the_real_one() -> None:
    found = verdict("gan", [replace(entry("r3gan"), compared=250)], entry(REAL)).findings
    assert [one.grade for one in found] == ["unknown", "unknown", "good", "unknown"]
    assert found[0].sentence == "250 images cannot be compared with 500 real ones."
