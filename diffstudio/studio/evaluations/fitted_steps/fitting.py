"""fit_steps(): find the times of few steps for a checkpoint, judge them, and keep those that are better."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from diffstudio.atomic import make_folder, write_text
from diffstudio.diffusion.samplers import network_calls
from diffstudio.diffusion.spacing import SPACINGS
from diffstudio.diffusion.step_fitting import (
    Ladder,
    Runs,
    difference,
    fit_by_dynamic_programming,
    grid_of,
    record_path,
    refine,
    with_midpoints,
)
from diffstudio.errors import BadRequest
from diffstudio.models import loading
from diffstudio.models.caption_words import caption_words
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FLOW_SPACING_NAMES
from diffstudio.models.fitted_steps import ladders as stored_ladders
from diffstudio.models.fitted_steps.distilled import check_denoises
from diffstudio.models.fitted_steps.stored import fitted_steps, store
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.model import Model
from diffstudio.models.recommended import recommended_for
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.fitted_steps.batches import Batch
from diffstudio.studio.evaluations.fitted_steps.request import FITTABLE, FitStepsRequest, steps_for
from diffstudio.studio.evaluations.fitted_steps.result import FitStepsResult, FittedLadder
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.job_folder import result_name
from diffstudio.studio.evaluations.progress import OnProgress

RESULT = result_name("models")  # in the request's `out`
FITTED_SEED, JUDGED_SEED = 0, 1000  # of the first image of each part
_GRID, _SEARCHED = 28, 8  # times of the grid, and images, of the dynamic programming
CONVERGED = ("unipc", "karras", 40)
_FEWEST_PROMPTS = 4  # that are divided
_SHARE_TO_FIT = 0.6  # of the prompts; the others are for judging
_PROMPTS = (
    "a photograph of a dog on a beach",
    "a red apple on a wooden table",
    "a city street at night in the rain",
    "portrait of an old man with a white beard",
    "a bowl of soup, seen from above",
    "mountains behind a lake, oil painting",
    "a cat sleeping on a sofa",
    "a bicycle leaning against a brick wall",
    "an astronaut riding a horse",
    "a glass of water with a slice of lemon",
    "a castle in the clouds, watercolour",
    "two parrots on a branch",
)


def fit_steps(
    request: FitStepsRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> FitStepsResult:
    """Fit steps to a checkpoint and keep them with it, as far as they are closer to converged images than other spacings.

    For each sampler: dynamic programming over a recorded path on a few images, then for each number of steps coordinate
    descent from the better of that ladder and the best spacing on offer; then both are judged by prompts and seeds that
    were not used. Where the checkpoint has all of the ladders already, they are refined further instead of searched.
    BadRequest for a checkpoint without steps, StorageProblem when the ladders cannot be kept; Interrupted when
    `cancelled` returns True or the control file in `out` says stop: nothing is kept then.
    """
    if request.out is not None:
        make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    checkpoint = library.find(request.checkpoint)
    check_denoises(checkpoint, "fitting steps")
    with job_control.taken(f"fitting steps to {checkpoint.name}"):
        on_progress(f"Loading {checkpoint.name}", 0, 0)
        model = loading.load(checkpoint, choose_device(request.device))
        if model.own_sampler is not None or model.inpaints:
            why = "it takes an image and a mask" if model.inpaints else "its images are not sampled step by step here"
            raise BadRequest(f"Steps cannot be fitted to {checkpoint.name}", why, "Choose another checkpoint")
        with torch.inference_mode():
            found = _Fitting(request, checkpoint, model, job_control.check, on_progress).result()
    if request.out is not None:
        write_text(request.out / RESULT, json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    return found


class _Fitting:
    """One request in progress."""

    def __init__(
        self,
        request: FitStepsRequest,
        checkpoint: Checkpoint,
        model: Model,
        check: Callable[[], None],
        on_progress: OnProgress,
    ) -> None:
        self._request, self._checkpoint, self._model = request, checkpoint, model
        self._check, self._on_progress = check, on_progress
        usual = recommended_for(checkpoint)
        recommended = usual.sampler if usual is not None and usual.sampler in FITTABLE else FITTABLE[0]
        self._samplers = request.samplers or (recommended,)
        guidance = usual.guidance if usual is not None else 1.0
        self._guidance = guidance if request.guidance is None else request.guidance
        self._notes: list[str] = []
        fitted, judged = self._split(_prompts_of(request, checkpoint))
        self._fitted = Batch.of(model, fitted, request.images, FITTED_SEED, self._guidance, self._called)
        self._judged = Batch.of(model, judged, request.judged, JUDGED_SEED, self._guidance, self._called)
        self._states: dict[Batch, Tensor] = {}  # the converged ones
        self._what, self._done, self._total = "", 0, self._work()

    def result(self) -> FitStepsResult:
        found = [one for sampler in self._samplers for one in self._of_sampler(sampler)]
        kept = [one for one in found if one.kept]
        if kept and (problem := fitted_steps(self._checkpoint).problem):
            self._notes.append(f"The steps fitted earlier could not be read ({problem}) and were replaced.")
        path = store(self._checkpoint, [self._record(one) for one in kept]) if kept else ""
        if len(kept) < len(found):
            self._notes.append("What is not closer is not kept: a request for it uses another scheduler, and says so.")
        return FitStepsResult(
            self._checkpoint.name,
            self._guidance,
            self._request.images,
            self._request.judged,
            tuple(found),
            str(path),
            tuple(self._notes),
            judged_by_others=not set(self._fitted.prompts) & set(self._judged.prompts),
        )

    # ---- one sampler ---------------------------------------------------------------------------------------------------

    def _of_sampler(self, sampler: str) -> Iterator[FittedLadder]:
        counts = sorted({steps_for(sampler, calls) for calls in self._request.calls})
        self._what = f"Searching steps for {sampler}"
        known = self._known(sampler, counts) or self._by_search(sampler, counts)
        for steps in counts:
            self._what = f"Fitting {count_of(steps, 'step')} to {sampler}"
            offered = self._offered(steps)
            runs = self._fitted.runs(sampler)
            target = runs.finished(self._converged(self._fitted))
            start = min((known[steps], *offered.values()), key=lambda ladder: self._away(runs, self._fitted, ladder))
            ladder, _ = refine(runs, self._model.schedule, start, target, self._request.effort)
            yield self._judge(sampler, ladder, offered)

    def _known(self, sampler: str, counts: Sequence[int]) -> dict[int, Ladder]:
        """The ladders that the checkpoint has, which are refined further; empty unless it has all of them."""
        known = {steps: fitted_steps(self._checkpoint).of(sampler, steps) for steps in counts}
        t_max = self._model.schedule.t_max
        found = {steps: tuple(t * t_max for t in one.times) for steps, one in known.items() if one is not None}
        return found if len(found) == len(known) else {}

    def _by_search(self, sampler: str, counts: Sequence[int]) -> dict[int, Ladder]:
        """The ladders that dynamic programming finds with a part of the images."""
        part = self._fitted.part(_SEARCHED)
        grid = grid_of(self._model.schedule, max(_GRID, max(counts) + 4))
        path = record_path(part.runs("dpmpp_2m"), with_midpoints(grid))
        return fit_by_dynamic_programming(part.runs(sampler), {t: path[t] for t in (*grid, 0.0)}, counts)

    def _judge(self, sampler: str, ladder: Ladder, offered: Mapping[str, Ladder]) -> FittedLadder:
        """The ladder and the best spacing on offer, on the images that were not used."""
        self._what = f"Judging {count_of(len(ladder), 'step')} of {sampler}"
        runs, schedule = self._judged.runs(sampler), self._model.schedule
        away = self._away(runs, self._judged, ladder)
        others = {name: self._away(runs, self._judged, other) for name, other in offered.items()}
        usual = min(others, key=lambda name: others[name])
        times = tuple(t / schedule.t_max for t in ladder)
        calls = network_calls(sampler, schedule, torch.tensor((*ladder, 0.0), dtype=torch.float64))
        return FittedLadder(sampler, len(ladder), calls, times, away, usual, others[usual], away < others[usual])

    def _away(self, runs: Runs, part: Batch, ladder: Ladder) -> float:
        """The mean squared difference of the images, 0 to 1, from converged ones."""
        away = difference(part.images(runs.state((*ladder, 0.0))), part.images(self._converged(part)))
        runs.forget()
        return away

    def _offered(self, steps: int) -> dict[str, Ladder]:
        """The spacings on offer that begin with noise alone."""
        model, found = self._model, dict[str, Ladder]()
        for name in FLOW_SPACING_NAMES if model.family.flow else SPACINGS:
            if name in ("leading", "trailing" if model.family.flow else "") or (
                name == "align_your_steps" and not model.family.aligned
            ):
                continue
            try:
                times = model.times(steps, name, 1.0, *model.network_size)
            except BadRequest:  # more steps than it has times
                continue
            if float(times[0]) == model.schedule.t_max:
                found[name] = tuple(times[:-1].tolist())
        return found

    def _converged(self, part: Batch) -> Tensor:
        """The last states [B,C,h,w] of many steps, computed once."""
        if part not in self._states:
            doing, self._what = self._what, "Recording converged images"
            sampler, spacing, steps = CONVERGED
            times = self._model.times(steps, spacing, 1.0, *self._model.network_size)
            self._states[part] = part.runs(sampler).state(times.tolist())
            self._what = doing
        return self._states[part]

    def _record(self, one: FittedLadder) -> stored_ladders.Ladder:
        sampler, calls = self._samplers[0], self._request.recommend
        recommended = calls is not None and (one.sampler, one.steps) == (sampler, steps_for(sampler, calls))
        width, height = self._model.network_size
        return stored_ladders.Ladder(
            one.sampler,
            one.times,
            self._guidance,
            width,
            height,
            self._request.images,
            one.difference,
            one.usual,
            one.usual_difference,
            recommended,
        )

    # ---- prompts and progress ------------------------------------------------------------------------------------------

    def _split(self, prompts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Prompts to fit with, and others to judge by; the same prompts if there are few."""
        prompts = tuple(dict.fromkeys(prompts))
        first = round(_SHARE_TO_FIT * len(prompts))
        if len(prompts) < _FEWEST_PROMPTS:
            self._notes.append("There were too few prompts to judge by others: the seeds differ, the prompts do not.")
            return prompts, prompts
        return prompts[:first], prompts[first:]

    def _called(self, images: int) -> None:
        self._check()
        self._done = min(self._done + images, self._total)
        self._on_progress(self._what, self._done, self._total)

    def _work(self) -> int:
        """About how many images go through the network in all; more than are needed."""
        request, (_, _, converged) = self._request, CONVERGED
        work, spacings = converged * (request.images + request.judged), 1 + len(self._offered(10))
        for sampler in self._samplers:
            counts = sorted({steps_for(sampler, calls) for calls in request.calls})
            if not self._known(sampler, counts):
                work += min(_SEARCHED, request.images) * _GRID * (2 + max(counts) + len(counts))
            for calls in request.calls:
                work += (request.images + request.judged) * spacings * calls + request.images * request.effort
        return work


def _prompts_of(request: FitStepsRequest, checkpoint: Checkpoint) -> Sequence[str]:
    """Those of the request, captions of the checkpoint's training, its classes, or some of this program."""
    if checkpoint.conditioning is Conditioning.NONE:
        return ("",)
    if request.prompts:
        return request.prompts
    if checkpoint.conditioning is Conditioning.CLASS:
        return checkpoint.classes
    known = caption_words(checkpoint)
    return known.examples if known is not None and known.examples else _PROMPTS
