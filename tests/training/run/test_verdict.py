"""The verdict on runs whose outcome is known: see tests/data/verdicts/record.py, which trained them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.training.evidence.checkpoint_choice import CheckpointChoice, JudgedCheckpoint
from diffstudio.training.evidence.cross_validation import CrossValidation
from diffstudio.training.evidence.evidence import Evidence
from diffstudio.training.objectives.objective import Diversity
from diffstudio.training.run.events import Outcome
from diffstudio.training.run.verdict import (
    best_step,
    judged_losses,
    measurements_since_best,
    still_falling,
    verdict,
    why_it_ends_early,
)

RECORDED = json.loads((Path(__file__).parents[2] / "data" / "verdicts" / "evidence.json").read_text(encoding="utf-8"))


def last(name: str) -> Evidence:
    return Evidence.from_json(RECORDED[name][-1])


@pytest.mark.parametrize(
    ("name", "outcomes", "part"),
    [
        ("one image", {Outcome.TOO_LITTLE}, "only one image"),
        ("six equal images", {Outcome.TOO_LITTLE}, "All 6 images are identical"),
        ("12 images over-trained", {Outcome.COPYING}, "16 of 16 samples"),
        ("24 images over-trained", {Outcome.COPYING}, "16 of 16 samples"),
        ("classes of one", {Outcome.COPYING}, "16 of 16 samples"),
        ("300 images in two minutes", {Outcome.LEARNING, Outcome.TOO_LITTLE}, "still falling"),
        ("1,200 images well trained", {Outcome.LEARNING, Outcome.READY}, "held-out loss"),
        ("noise", {Outcome.TOO_LITTLE}, "samples are blurs"),
    ],
)
def test_each_folder_gets_its_verdict(name: str, outcomes: set[Outcome], part: str) -> None:
    found = verdict(last(name))
    assert found.outcome in outcomes and part in found.sentence, found
    assert found.learned == (found.outcome in (Outcome.LEARNING, Outcome.READY)) and found.evidence


@pytest.mark.parametrize("name", RECORDED)
def test_no_moment_of_these_runs_is_called_learned_without_beating_the_gaussian_model(name: str) -> None:
    for values in RECORDED[name]:
        evidence = Evidence.from_json(values)
        found = verdict(evidence)
        if found.learned:
            assert evidence.baseline is not None and evidence.losses[-1][1] < evidence.baseline
            assert evidence.copied <= 2


def evidence(**values: object) -> Evidence:
    """Of a run on 500 images that went well and is not over."""
    usual = Evidence(
        step=600,
        progress=0.5,
        images=450,
        different_images=450,
        epochs=20.0,
        held_out=50,
        losses=tuple((100 * index, 0.5 - 0.05 * index) for index in range(1, 7)),
        training_loss=0.19,
        baseline=0.4,
        samples=16,
        spread=0.9,
        vendi=6.0,
        real_vendi=7.0,
    )
    return replace(usual, **values)  # type: ignore[arg-type]


def losses(*values: float) -> tuple[tuple[int, float], ...]:
    return tuple((100 * index, value) for index, value in enumerate(values, start=1))


def test_a_falling_loss_is_learning_and_one_that_has_risen_is_never_sent_on() -> None:
    assert verdict(evidence()).outcome is Outcome.LEARNING
    risen = verdict(evidence(losses=losses(0.4, 0.3, 0.25, 0.2, 0.22, 0.24, 0.26, 0.28)))
    assert risen.outcome is Outcome.READY and risen.best_step == 400 and "risen by 40%" in risen.sentence
    assert (
        "By this measure" in risen.sentence
        and "more steps do not help" in risen.sentence
        and "train for" not in risen.sentence.lower()
    )
    level = verdict(evidence(losses=losses(0.4, 0.3, 0.25, 0.2, 0.2, 0.201, 0.2, 0.2005)))
    assert level.outcome is Outcome.READY and level.best_step == 400 and "not improved" in level.sentence
    rising_blurs = verdict(evidence(losses=losses(0.6, 0.5, 0.45, 0.41, 0.43, 0.46, 0.5, 0.55)))
    for blurs in (rising_blurs, verdict(evidence(losses=losses(0.45, 0.41, 0.44)))):
        assert blurs.outcome is Outcome.TOO_LITTLE and "train for longer" not in blurs.sentence


def test_blurs_are_not_called_learned() -> None:
    blurs = verdict(evidence(baseline=0.2))
    assert blurs.outcome is Outcome.TOO_LITTLE and not blurs.learned and "train for longer" in blurs.sentence


def test_copies_outweigh_a_falling_loss() -> None:
    copying = verdict(evidence(copied=5, copied_images=("a.png", "b.png", "a.png", "a.png", "a.png")))
    assert copying.outcome is Outcome.COPYING and "5 of 16 samples are" in copying.sentence
    assert "2 different ones" in copying.sentence and "Use an earlier checkpoint" in copying.sentence


def test_copies_that_a_checkpoint_brought_along_are_not_blamed_on_the_run() -> None:
    brought = verdict(evidence(copied=5, copied_images=("a.png",) * 5, copied_at_start=9))
    assert (
        brought.outcome is Outcome.COPYING
        and "The checkpoint that it started from made at least as many" in brought.sentence
    )
    assert "earlier checkpoint" not in brought.sentence
    assert (
        "5 of 16 samples are near-copies of training images; 9 were before each image was seen once."
        in brought.evidence
    )
    once = verdict(evidence(copied=2, copied_images=("a.png",) * 2, copied_at_start=1)).evidence
    assert any(line.endswith("; 1 was before each image was seen once.") for line in once)
    for own in (evidence(copied=9, copied_at_start=5), evidence(copied=9, copied_at_start=0), evidence(copied=9)):
        assert "Use an earlier checkpoint" in verdict(own).sentence
    one = verdict(evidence(copied=1, copied_images=("a.png",)))
    assert one.outcome is Outcome.LEARNING and "1 of 16 samples is a near-copy of a training image." in one.evidence


def test_samples_that_are_all_alike_are_collapsed() -> None:
    assert verdict(evidence(spread=0.05)).outcome is Outcome.COLLAPSED
    for broken in (evidence(finite=False), evidence(losses=losses(0.3, 0.2, math.nan))):
        found = verdict(broken)
        assert found.outcome is Outcome.COLLAPSED and "NaN" in found.sentence
    assert best_step(losses(0.3, math.nan, 0.2)) == 300 and best_step(()) is None


def test_few_samples_that_differ_and_cover_little_are_collapsed_once_they_are_more_than_blurs() -> None:
    """Two alternating images are as far apart as any: their distance alone does not tell."""
    covered = Diversity(16, 0.9, 0.05, 0.9, 0.6, None, 0.0, 0.7)
    found = verdict(evidence(diversity=covered))
    assert found.outcome is Outcome.COLLAPSED and "16 samples cover 5% of the held-out images" in found.sentence
    assert "as many training images 60%" in found.sentence and "earlier checkpoint" in found.sentence
    assert any("5% of the held-out images (60% for as many" in sentence for sentence in found.evidence)
    assert verdict(evidence(diversity=covered, baseline=0.2)).outcome is Outcome.TOO_LITTLE  # blurs
    assert verdict(evidence(diversity=covered, baseline=0.2, kind="vae")).outcome is Outcome.COLLAPSED
    assert verdict(evidence(diversity=replace(covered, coverage=0.4))).outcome is Outcome.LEARNING


@pytest.mark.parametrize("count", range(1, 40))
def test_any_number_of_images_gets_a_true_sentence(count: int) -> None:
    held_out = 0 if count < 20 else 4
    few = Evidence(0, 0.0, count, count, 0.0, held_out)
    found = verdict(few)
    assert found.outcome is Outcome.TOO_LITTLE and not found.learned and found.best_step is None
    assert ("only one image" in found.sentence) == (count == 1)
    assert (f"{count} different images" in found.sentence) == (1 < count < 20)
    assert found.evidence[0].startswith("1 image to train on" if count == 1 else f"{count} images to train on")


def test_few_measurements_say_nothing_yet() -> None:
    assert "too few times" in verdict(evidence(losses=losses(0.3, 0.2))).sentence
    assert "Too few images are held out" in verdict(evidence(held_out=3)).sentence
    assert not still_falling(()) and not still_falling(losses(0.3, 0.2)) and still_falling(losses(0.4, 0.3, 0.2))


def of_folds(*values: float, baseline: float = 0.5) -> CrossValidation:
    return CrossValidation(4, 16, losses(*values), 0.15, 0.25, baseline)


def test_a_cross_validated_run_is_judged_by_the_pooled_loss_and_quotes_it() -> None:
    tiny = evidence(images=16, different_images=16, held_out=0, losses=(), baseline=None, training_loss=None)
    found = of_folds(0.4, 0.3, 0.2, 0.24, 0.3, 0.36)
    ready = verdict(replace(tiny, step=300, cross=found))
    assert ready.outcome is Outcome.READY and ready.best_step == 300
    assert "on all 16 images for the 300 steps" in ready.sentence
    assert any(
        "Cross-validated over 4 folds of 16 images" in sentence and "0.1500 to 0.2500" in sentence
        for sentence in ready.evidence
    )
    assert verdict(replace(tiny, step=100, cross=found)).outcome is Outcome.LEARNING
    assert "past step 300" in verdict(replace(tiny, step=500, cross=found)).sentence
    falling = verdict(replace(tiny, step=600, cross=of_folds(0.4, 0.36, 0.3, 0.26, 0.23, 0.2)))
    assert falling.outcome is Outcome.LEARNING and "still falling" in falling.sentence
    blurs = verdict(replace(tiny, step=300, cross=of_folds(0.4, 0.3, 0.2, 0.24, 0.3, 0.36, baseline=0.2)))
    assert blurs.outcome is Outcome.TOO_LITTLE and "more images" in blurs.sentence
    copying = verdict(replace(tiny, step=300, cross=found, copied=8, copied_images=("a.png",) * 8))
    assert copying.outcome is Outcome.COPYING
    alike = verdict(replace(tiny, step=300, cross=found, spread=0.1))
    assert alike.outcome is Outcome.COLLAPSED and "10% as diverse" in alike.sentence


def test_more_images_are_not_asked_for_before_those_there_are_were_seen() -> None:
    """18 steps of 8 images on a folder of 200: the distance of a GAN wanders long before its images could be too few."""
    early = evidence(kind="gan", step=18, epochs=0.9, losses=losses(0.93, 2.07, 1.1, 1.3), baseline=0.5)
    found = verdict(early)
    assert found.outcome is Outcome.TOO_LITTLE and "seen only 0.9 times: too early to say" in found.sentence
    assert "More steps" not in found.sentence and "are needed" not in found.sentence
    assert "seen only 3.1 times" in verdict(replace(early, epochs=3.1)).sentence, "a GAN needs many more"
    assert "are needed" in verdict(replace(early, epochs=30.0)).sentence
    assert "are needed" in verdict(replace(early, kind="vae", epochs=3.0)).sentence


# R3GAN at 64 px on 1,753 emoji in 169 steps, about as many as fit into six minutes of one core.
_DISTANCES = (1.542, 0.595, 0.722, 0.077, 0.269, 0.123, 0.114, 0.080, 0.076, 0.060, 0.066, 0.071)


def test_the_distance_of_a_gan_is_judged_by_running_medians() -> None:
    """It rises and falls by tens of percent while it falls, so a single low measurement is mostly chance."""
    young = evidence(kind="gan", step=169, epochs=3.1, losses=losses(*_DISTANCES), baseline=0.0447)
    found = verdict(young)
    assert found.outcome is Outcome.TOO_LITTLE and found.sentence.endswith("It is still falling: train for longer.")
    assert found.best_step == 1000 and "lowest 0.0600 at step 1,000" in " ".join(found.evidence), "of one measurement"
    assert "; running median 0.0660, lowest 0.0660 at step 1,100" in " ".join(found.evidence)
    for other in (replace(young, kind="diffusion"), replace(young, losses=losses(math.nan)), replace(young, losses=())):
        assert "median" not in " ".join(verdict(other).evidence)
    assert "has stopped falling" in verdict(replace(young, kind="diffusion")).sentence
    lucky = losses(0.9, 0.6, 0.2, 0.58, 0.55, 0.52, 0.5, 0.48)  # the third is chance
    assert verdict(replace(young, losses=lucky, baseline=1.0)).outcome is Outcome.LEARNING
    assert verdict(replace(young, losses=lucky, baseline=0.25)).outcome is Outcome.LEARNING, "that checkpoint is kept"
    assert verdict(replace(young, losses=lucky, baseline=0.2)).outcome is Outcome.TOO_LITTLE
    risen = losses(0.9, 0.6, 0.4, 0.41, 0.42, 0.5, 0.55, 0.6, 0.62, 0.61)
    ready = verdict(replace(young, losses=risen, baseline=1.0))
    assert ready.outcome is Outcome.READY and "since step 300" in ready.sentence and "risen by 52%" in ready.sentence
    by_chance = verdict(replace(young, losses=(*risen[:-1], (1000, 0.405)), baseline=1.0))  # nearly the lowest
    assert by_chance.outcome is Outcome.READY and "since step 300" in by_chance.sentence
    assert by_chance.sentence.partition(" has ")[2].startswith("not improved. ")
    newest = verdict(replace(young, losses=losses(0.9, 0.6, 0.5, 0.7, 0.6, 0.7, 0.65, 0.4), baseline=1.0))
    assert newest.outcome is Outcome.LEARNING, "the newest is the lowest"
    assert judged_losses("gan", losses(0.5, math.nan, 0.3, 0.4)) == ((100, 0.5), (300, 0.4), (400, 0.4))
    assert judged_losses("vae", risen) is risen


def test_a_young_gan_whose_samples_are_alike_is_not_called_collapsed() -> None:
    """R3GAN at 64 px on 1,753 emoji, after 121 steps of 32 images: its samples become diverse in a few hundred more."""
    alike = Diversity(256, 1.0, 0.15, 0.97, 1.0, None)
    young = evidence(
        kind="gan", step=121, epochs=2.2, losses=losses(0.35, 1.49, 1.28, 0.39, 0.23, 1.29, 1.1), diversity=alike
    )
    found = verdict(young)
    assert (
        found.outcome is Outcome.TOO_LITTLE and "alike so far: 256 samples cover 15% of the held-out" in found.sentence
    )
    assert "seen only 2.2 times: too early to say whether it has collapsed" in found.sentence
    for later in (replace(young, epochs=3.0), replace(young, step=1000)):
        assert verdict(later).outcome is Outcome.COLLAPSED and "with a higher gamma" in verdict(later).sentence


def test_a_single_low_measurement_does_not_end_the_run_of_a_gan() -> None:
    lucky = losses(0.9, 0.6, 0.2, 0.58, 0.55, 0.52, 0.5, 0.48, 0.47)
    assert measurements_since_best("diffusion", lucky) == 6 and measurements_since_best("gan", lucky) == 0
    risen = losses(0.9, 0.6, 0.4, 0.41, 0.42, 0.5, 0.55, 0.6, 0.62, 0.61)
    assert measurements_since_best("gan", risen) == 6 and measurements_since_best("diffusion", risen) == 7
    assert measurements_since_best("diffusion", risen, 900) == 1 and measurements_since_best("gan", ()) == 0


def test_an_early_end_says_what_did_not_fall() -> None:
    risen = losses(0.9, 0.6, 0.4, 0.41, 0.42, 0.5, 0.55, 0.6, 0.62, 0.61)
    assert why_it_ends_early("vae", risen, 300, measurements_since_best("vae", risen)) == (
        "the held-out bound (ELBO) was lowest at step 300 (0.4000) and no lower in the 7 measurements since (now 0.6100)"
    )
    assert why_it_ends_early("gan", risen, 300, measurements_since_best("gan", risen)) == (
        "the distance to the held-out images was lowest at step 300 (0.4000) and its running median no lower "
        "in the last 6 measurements (now 0.6100)"
    )


RISEN = losses(0.4, 0.3, 0.25, 0.2, 0.22, 0.24, 0.26, 0.28)


def chosen(of_lowest: JudgedCheckpoint, of_last: JudgedCheckpoint) -> CheckpointChoice:
    return CheckpointChoice.by_images([of_lowest, of_last], 256, 400)


def test_a_verdict_says_which_checkpoint_is_kept_and_why() -> None:
    last = verdict(evidence(losses=RISEN, choice=chosen(JudgedCheckpoint(400, 0.3, 0), JudgedCheckpoint(800, 0.2, 1))))
    assert last.outcome is Outcome.READY and last.best_step == 800 and "risen by 40%" in last.sentence
    assert last.sentence.endswith("But the checkpoint of step 800 is kept: its images are nearer to the held-out ones.")
    assert (
        "The checkpoint of step 800 is kept: its images are nearer to the held-out ones. With 256 images each, step 400 "
        "(lowest held-out loss) has an energy distance of 0.3000 and no copies; step 800 has an energy distance of 0.2000 "
        "and 1 near-copy."
    ) in last.evidence
    of_lowest = chosen(JudgedCheckpoint(400, 0.2, 0), JudgedCheckpoint(800, 0.3, 0))
    lowest = verdict(evidence(losses=RISEN, choice=of_lowest))
    assert lowest.best_step == 400 and "its images are nearer to the held-out ones. More" in lowest.sentence


def test_copies_of_the_checkpoint_that_is_kept_count() -> None:
    copies = chosen(JudgedCheckpoint(400, 0.3, 2), JudgedCheckpoint(800, 0.2, 90))
    kept = verdict(evidence(losses=RISEN, choice=copies))
    assert kept.best_step == 400 and "is kept: other images are nearer to the held-out ones, but" in kept.sentence
    last_copies = evidence(step=800, losses=RISEN, copied=9, copied_images=("a.png",) * 9, choice=copies)
    assert verdict(last_copies).outcome is Outcome.READY
    assert verdict(replace(last_copies, step=900)).outcome is Outcome.COPYING  # it was continued
    both = chosen(JudgedCheckpoint(400, 0.3, 60), JudgedCheckpoint(800, 0.2, 90))
    copying = verdict(evidence(step=800, losses=RISEN, choice=both))
    assert copying.outcome is Outcome.COPYING
    assert "60 of 256 samples are near-copies of training images. Use an earlier" in copying.sentence
    assert Evidence.from_json(json.loads(json.dumps(evidence(choice=copies).to_json()))) == evidence(choice=copies)


def test_one_image_and_equal_images_keep_their_sentence_with_cross_validation() -> None:
    same = evidence(images=16, different_images=1, held_out=0, cross=of_folds(0.3, 0.2))
    assert "All 16 images are identical" in verdict(same).sentence
