"""The verdict on a run: what was learned, in a sentence and with its evidence. `verdict(evidence)` is a pure function.

Held-out loss alone does not say it: it is low for blurs where images are alike, and falls on while copies are drawn. So it
is compared with that of a Gaussian model (`gaussian_baseline`); copies and the diversity of the samples count too. The
losses of a GAN are not informative: it is judged by its distance to the held-out images and its coverage of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from diffstudio.plurals import by_number, count_of
from diffstudio.training.data.split import MIN_IMAGES_TO_HOLD_OUT
from diffstudio.training.evidence.checkpoint_choice import CheckpointChoice, is_copying
from diffstudio.training.evidence.cross_validation import CrossValidation
from diffstudio.training.evidence.evidence import Evidence
from diffstudio.training.run.events import Outcome

FEWEST_IMAGES = MIN_IMAGES_TO_HOLD_OUT  # different ones, in the whole folder
FEWEST_HELD_OUT = 4  # below, the held-out loss is that of single images
FEWEST_MEASUREMENTS = 4
_STILL_FALLING = "It is still falling: train for longer."
_MORE_IMAGES = "It has stopped falling: more images, or images that have more in common, are needed."
# Below so many epochs, a measure that no longer falls says nothing about the number of images. GANs need many more.
_FEWEST_EPOCHS, _FEWEST_EPOCHS_OF_GAN = 3.0, 30.0
_FEWEST_STEPS = 1000  # from which a VAE or GAN may be called collapsed however few epochs they are
_STEADY = 3  # measurements of a GAN, of which the median counts
BEYOND_BASELINE = 0.95  # of the Gaussian model's loss: below, the network knows more than it
COLLAPSED_SPREAD = 0.25  # relative to the distance between training images, overall or within a class
COLLAPSED_COVERAGE = 0.25  # relative to the coverage by as many training images
CLEARLY = 0.005  # relative: a smaller change of the held-out loss does not count
RISEN = 0.03  # relative: this far above its minimum, the held-out loss is rising


_MEASURES = {  # by the kind of model
    "diffusion": ("the held-out loss", ""),
    "vae": ("the held-out bound (ELBO)", " bits per dimension"),
    "gan": ("the distance to the held-out images", ""),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    sentence: str
    evidence: tuple[str, ...]  # in sentences
    best_step: int | None  # of the checkpoint to generate with: the one that was chosen, or of the lowest held-out loss

    @property
    def learned(self) -> bool:
        return self.outcome in (Outcome.LEARNING, Outcome.READY)


def verdict(evidence: Evidence) -> Verdict:
    """What the numbers of a run say about it. Never raises."""
    outcome, sentence = _judge(evidence)
    losses = evidence.losses if evidence.cross is None else evidence.cross.losses
    best = evidence.choice.chosen if evidence.choice is not None else best_step(losses)
    return Verdict(outcome, sentence, tuple(_evidence(evidence)), best)


def held_out_measure(kind: str) -> str:
    """The held-out measure of a kind of model as it is named in a sentence: `the held-out loss`."""
    return _MEASURES.get(kind, _MEASURES["diffusion"])[0]


def best_step(losses: tuple[tuple[int, float], ...]) -> int | None:
    """The step of the lowest held-out loss; None without one."""
    finite = [(loss, step) for step, loss in losses if math.isfinite(loss)]
    return min(finite)[1] if finite else None


def _judge(evidence: Evidence) -> tuple[Outcome, str]:
    if not evidence.finite or any(not math.isfinite(loss) for _, loss in evidence.losses[-1:]):
        return Outcome.COLLAPSED, (
            "The loss is NaN or Inf: this checkpoint cannot generate images. Start again with a lower learning rate."
        )
    if evidence.different_images <= 1:
        what = "There is only one image" if evidence.images <= 1 else f"All {evidence.images:,} images are identical"
        return Outcome.TOO_LITTLE, f"{what}: a model can only repeat it. Add different images."
    if _copies(evidence):
        several = len(set(evidence.copied_images))
        different = f" ({several:,} different one{'' if several == 1 else 's'})" if several else ""
        return Outcome.COPYING, (
            f"It is copying: {_near_copies(*_counted_copies(evidence))}{different}. {_instead_of_copies(evidence)}"
        )
    if evidence.cross is not None:
        return _by_cross_validation(evidence, evidence.cross)
    if _different(evidence) < FEWEST_IMAGES:
        return Outcome.TOO_LITTLE, (
            f"There {by_number(_different(evidence), 'is', 'are')} only {count_of(_different(evidence), 'different image')}: "
            f"too few for a held-out set, so nothing says "
            "whether the model can generate new ones. Add images."
        )
    if evidence.held_out < FEWEST_HELD_OUT:
        return Outcome.TOO_LITTLE, "Too few images are held out to say what was learned. Hold out more of them."
    return _by_held_out_loss(evidence)


def _by_cross_validation(evidence: Evidence, found: CrossValidation) -> tuple[Outcome, str]:
    """The verdict on a run on all images whose number of steps was chosen by cross-validation."""
    best, lowest = found.best
    if found.baseline is not None and lowest > BEYOND_BASELINE * found.baseline:
        return Outcome.TOO_LITTLE, (
            "Too little was learned: the cross-validated loss is not clearly below that of a Gaussian model of the images, "
            f"whose samples are blurs. {_STILL_FALLING if still_falling(found.losses) else _stopped_falling(evidence)}"
        )
    if why := _alike(evidence):
        return _collapsed(why, evidence)
    if evidence.step < best:
        return (
            Outcome.LEARNING,
            f"It is learning: cross-validation chose {count_of(best, 'step')}, and this is step {evidence.step:,}.",
        )
    if evidence.step > best:
        return Outcome.READY, (
            f"It was trained past step {best:,}, where the cross-validated loss was lowest. More steps do not help."
        )
    if still_falling(found.losses) or best == found.losses[-1][0]:
        return Outcome.LEARNING, (
            f"It is learning: the cross-validated loss was still falling at step {best:,}, the last one measured. "
            "A longer run will improve it."
        )
    return Outcome.READY, (
        f"Ready: trained on all {evidence.images:,} images for the {count_of(best, 'step')} at which the cross-validated loss was "
        "lowest. More steps do not help."
    )


def _by_held_out_loss(evidence: Evidence) -> tuple[Outcome, str]:
    losses, measure = judged_losses(evidence.kind, evidence.losses), held_out_measure(evidence.kind)
    # of the checkpoint that is kept
    lowest = min((loss for _, loss in evidence.losses if math.isfinite(loss)), default=math.inf)
    falling = still_falling(losses) or _is_lowest_of_gan(evidence)
    why, enough = _collapse(evidence), len(losses) >= FEWEST_MEASUREMENTS
    # A collapsed VAE or GAN may never beat the baseline; the early samples of a diffusion model are blurs, which are alike.
    if why and enough and evidence.kind != "diffusion":
        return _collapsed(why, evidence) if _may_have_collapsed(evidence) else _alike_so_far(why, evidence)
    if evidence.baseline is not None and lowest > BEYOND_BASELINE * evidence.baseline:
        more = _stopped_falling(evidence)
        if falling or (len(losses) < FEWEST_MEASUREMENTS and not has_risen(losses)):
            more = _STILL_FALLING
        return Outcome.TOO_LITTLE, (
            f"Too little was learned: {measure} is not clearly below that of a Gaussian model of the images, "
            f"whose samples are blurs. {more}"
        )
    if alike := _alike(evidence):
        why, enough = alike, True
    if why and enough:
        return _collapsed(why, evidence)
    if len(losses) < FEWEST_MEASUREMENTS:
        return Outcome.TOO_LITTLE, f"Too early to say: {measure} was measured too few times."
    if falling:
        return Outcome.LEARNING, f"It is learning: {measure} is still falling. More steps will improve it."
    best, last = best_step(evidence.losses), evidence.losses[-1][1]
    since = f"since step {best:,} {measure} has "
    risen = has_risen(losses) and has_risen(evidence.losses)  # of a GAN: its median and its last measurement
    changed = f"risen by {last / lowest - 1:.0%}" if risen else "not improved"
    return Outcome.READY, f"Ready: {since}{changed}. {_which_checkpoint(evidence.choice, best)}"


def _which_checkpoint(choice: CheckpointChoice | None, lowest_loss: int | None) -> str:
    """A sentence for a loss that no longer falls: which checkpoint is the best, and by which measure."""
    if choice is None or not choice.between_steps:
        return "By this measure the checkpoint of that step is the best; more steps do not help."
    if choice.chosen == lowest_loss:
        return f"The checkpoint of that step is kept: {choice.reason}. More steps do not help."
    return f"But the checkpoint of step {choice.chosen:,} is kept: {choice.reason}."


def _stopped_falling(evidence: Evidence) -> str:
    if evidence.epochs >= (_FEWEST_EPOCHS_OF_GAN if evidence.kind == "gan" else _FEWEST_EPOCHS):
        return _MORE_IMAGES
    return (
        f"It has stopped falling, but each image was seen only {evidence.epochs:,.1f} times: too early to say whether more "
        "time or more images would help."
    )


def _alike(evidence: Evidence) -> str:
    """A clause that says how little the samples differ; empty if they differ enough."""
    if evidence.spread is None or evidence.spread >= COLLAPSED_SPREAD:
        return ""
    return f"its samples are only {evidence.spread:.0%} as diverse as the training images"


def _collapse(evidence: Evidence) -> str:
    """A clause that says how many samples of a model show its collapse; empty if they do not.

    A few dissimilar samples can hide a collapse: they may differ by class or by chance.
    """
    found = evidence.diversity
    if found is None:
        return ""
    if found.within is not None and found.within < COLLAPSED_SPREAD:
        return f"samples of one class are only {found.within:.0%} as diverse as its training images"
    if found.coverage < COLLAPSED_COVERAGE * found.real_coverage and found.precision >= 0.5 * found.real_precision:
        return (
            f"{found.samples:,} samples cover {found.coverage:.0%} of the held-out images, "
            f"and as many training images {found.real_coverage:.0%}"
        )
    return ""


def _collapsed(why: str, evidence: Evidence) -> tuple[Outcome, str]:
    return Outcome.COLLAPSED, f"It has collapsed: {why}. {_against_collapse(evidence)}"


def _may_have_collapsed(evidence: Evidence) -> bool:
    """Whether a VAE or GAN was trained for long enough: in its first steps a GAN often generates few kinds of images."""
    return evidence.epochs >= _FEWEST_EPOCHS or evidence.step >= _FEWEST_STEPS


def _alike_so_far(why: str, evidence: Evidence) -> tuple[Outcome, str]:
    return Outcome.TOO_LITTLE, (
        f"Its samples are alike so far: {why}. Each image was seen only {evidence.epochs:,.1f} times: too early to say whether "
        "it has collapsed. Train for longer."
    )


def _against_collapse(evidence: Evidence) -> str:
    if evidence.kind == "gan":
        return "Train with gan_loss = r3gan, which prevents it, and if that is set with a higher gamma; or use an earlier checkpoint."
    return "Start again with a lower learning rate, or use an earlier checkpoint."


def judged_losses(kind: str, losses: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    """The held-out losses by which a run is judged: of a GAN, running medians of three.

    The distance of a GAN goes up and down by tens of percent while it falls, so one low measurement is mostly chance. The
    best checkpoint is still that of the lowest measurement, which is compared with the Gaussian model.
    """
    if kind != "gan":
        return losses
    finite = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    windows = [finite[max(0, place + 1 - _STEADY) : place + 1] for place in range(len(finite))]
    return tuple((window[-1][0], median(loss for _, loss in window)) for window in windows)


def measurements_since_best(kind: str, losses: tuple[tuple[int, float], ...], first_step: int = 0) -> int:
    """How many measurements after `first_step` were no better than the best one.

    Of a GAN they are counted from its lowest running median: one measurement that is low by chance must not end its run.
    """
    best = max(best_step(losses) or 0, best_step(judged_losses(kind, losses)) or 0, first_step)
    return sum(1 for step, _ in losses if step > best)


def why_it_ends_early(kind: str, losses: tuple[tuple[int, float], ...], best: int, since: int) -> str:
    """A clause for a run that is shortened after `since` measurements, as `measurements_since_best` counts them, without a
    better one than that of step `best`.
    """
    lower = f"no lower in the {count_of(since, 'measurement')} since"
    if kind == "gan":
        lower = f"its running median no lower in the last {count_of(since, 'measurement')}"
    return (
        f"{held_out_measure(kind)} was lowest at step {best:,} ({dict(losses)[best]:.4f}) and {lower} "
        f"(now {losses[-1][1]:.4f})"
    )


def _is_lowest_of_gan(evidence: Evidence) -> bool:
    """Whether a GAN's newest measurement is its lowest, which its running median does not show yet."""
    losses = evidence.losses
    return evidence.kind == "gan" and len(losses) > 1 and best_step(losses) == losses[-1][0]


def still_falling(losses: tuple[tuple[int, float], ...]) -> bool:
    """Whether the newest quarter of the held-out losses has its lowest value clearly below all before it."""
    newest = max(2, len(losses) // 4)
    before, recent = [loss for _, loss in losses[:-newest]], [loss for _, loss in losses[-newest:]]
    if not before:
        return False
    return min(recent) < min(before) * (1 - CLEARLY) and not has_risen(losses)


def has_risen(losses: tuple[tuple[int, float], ...]) -> bool:
    """Whether the last held-out loss is clearly above the lowest."""
    return bool(losses) and losses[-1][1] > min(loss for _, loss in losses) * (1 + RISEN)


def _different(evidence: Evidence) -> int:
    """Images of the folder, without duplicates: those that are held out have none among the others."""
    return evidence.different_images + evidence.held_out


def _copies(evidence: Evidence) -> bool:
    return is_copying(*_counted_copies(evidence))


def _counted_copies(evidence: Evidence) -> tuple[int, int]:
    """Copies and samples of the weights of now, or of the checkpoint that was chosen at the end."""
    choice = evidence.choice
    if choice is not None and choice.was_made_at(evidence.step):
        return choice.kept.copied, choice.images
    return evidence.copied, evidence.samples


def _near_copies(count: int, samples: int) -> str:
    """`1 of 16 samples is a near-copy of a training image`."""
    of = by_number(count, "is a near-copy of a training image", "are near-copies of training images")
    return f"{count:,} of {samples:,} samples {of}"


def _instead_of_copies(evidence: Evidence) -> str:
    if evidence.copied_at_start is not None and evidence.copied_at_start >= evidence.copied:
        return (
            "The checkpoint that it started from made at least as many before it had seen each image once: it was trained "
            "on such images. Start from scratch to see what can be learned from them."
        )
    if _different(evidence) < FEWEST_IMAGES:
        return "So few images can hardly give anything else: add images."
    return "Use an earlier checkpoint, train for fewer steps, or add images."


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _evidence(evidence: Evidence) -> list[str]:
    """A sentence for each kind of number there is."""
    found = [
        f"{evidence.images:,} image{'' if evidence.images == 1 else 's'} to train on"
        + (f", {evidence.different_images:,} different" if evidence.different_images != evidence.images else "")
        + f", each seen {evidence.epochs:,.1f} times"
        + (f"; {evidence.held_out:,} held out." if evidence.cross is None else ".")
    ]
    if evidence.cross is not None:
        found.append(_cross_validated(evidence.cross))
    if evidence.losses:
        step, last = evidence.losses[-1]
        best = best_step(evidence.losses)
        lowest = min((loss for _, loss in evidence.losses if math.isfinite(loss)), default=math.nan)
        measure, unit = _MEASURES.get(evidence.kind, _MEASURES["diffusion"])
        text = f"{_capitalised(measure.removeprefix('the '))} {last:.4f}{unit} at step {step:,}"
        if best is not None and best != step:
            text += f", lowest {lowest:.4f} at step {best:,}"
        medians = judged_losses(evidence.kind, evidence.losses)
        if medians and medians != evidence.losses:
            at, least = min(medians, key=lambda one: one[1])
            text += f"; running median {medians[-1][1]:.4f}, lowest {least:.4f} at step {at:,}"
        if evidence.training_loss is not None:
            text += f"; {evidence.training_loss:.4f} on as many training images"
        found.append(f"{text}{_beside_baseline(evidence.baseline)}.")
    if evidence.samples:
        text = _near_copies(evidence.copied, evidence.samples)
        if evidence.copied_at_start:
            were = by_number(evidence.copied_at_start, "was", "were")
            text += f"; {evidence.copied_at_start:,} {were} before each image was seen once"
        found.append(f"{text}.")
    if evidence.spread is not None:
        text = f"The mean distance between samples is {evidence.spread:.0%} of that between training images"
        if evidence.vendi is not None and evidence.real_vendi is not None:
            text += f"; their Vendi score is {evidence.vendi:.1f}, that of as many training images {evidence.real_vendi:.1f}"
        found.append(text + ".")
    if evidence.choice is not None:
        found.append(evidence.choice.sentence)
    if (many := evidence.diversity) is not None:
        found.append(
            f"{many.samples:,} samples cover {many.coverage:.0%} of the held-out images "
            f"({many.real_coverage:.0%} for as many training images), with a precision of {many.precision:.0%} "
            f"({many.real_precision:.0%})."
        )
        if many.within is not None:
            found.append(f"Samples of one class are {many.within:.0%} as diverse as its training images.")
    return found


def _cross_validated(cross: CrossValidation) -> str:
    (best, lowest), (last, loss) = cross.best, cross.losses[-1]
    text = (
        f"Cross-validated over {cross.splits} folds of {cross.images:,} images: the held-out loss was lowest at step "
        f"{best:,}, {lowest:.4f} (95% interval {cross.low:.4f} to {cross.high:.4f})"
    )
    text += f"; {loss:.4f} at step {last:,}" if last != best else ""
    return f"{text}{_beside_baseline(cross.baseline)}."


def _beside_baseline(loss: float | None) -> str:
    return f"; {loss:.4f} for a Gaussian model of the images" if loss is not None else ""
