"""attention(): generates one image with the attention maps of its prompt's words, by layer and step. Read this first."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.atomic import atomic_write, make_folder, write_text
from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.evaluation.attention.deletion import DeletionTest, deletion_test
from diffstudio.evaluation.attention.overlay import heat, over_image
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES, is_trained_here
from diffstudio.models.inspection.layers import AttentionLayer
from diffstudio.models.inspection.recording import AttentionRecording
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.model import IN_A_PIPELINE, EncodedPrompt, Model
from diffstudio.models.recommended import sampling_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.evaluations.attention.prompts import MaskedPrompt, PromptWords, check_prompt, words_of
from diffstudio.studio.evaluations.attention.request import AUTO, AttentionRequest
from diffstudio.studio.evaluations.attention.result import AttentionResult, FollowedWord
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.kept_images import save_image
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import CheckedDenoiser
from diffstudio.studio.evaluations.subjects import find_checkpoint
from diffstudio.studio.prompts.prompt_notes import PromptNotes

RESULT, ARRAYS = "attention.json", "attention.npz"  # in the request's `out`
_OTHER = "Choose a checkpoint that is prompted with text, such as the starter"


def attention(
    request: AttentionRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AttentionResult:
    """Generate the image of a prompt with the maps of its words, and test them by masking words; writes into `out`.

    The image is identical to the bit to one without maps. Holds the accelerator, and releases it while other images are
    generated. DiffstudioError for a checkpoint without text prompts or with unreadable attention, and for invalid values;
    Interrupted when `cancelled` returns True or the control file in `out` says stop.
    """
    make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    check_prompt(request.prompt)
    checkpoint = find_checkpoint(request.checkpoint, library)
    _check_has_text(checkpoint)
    device = choose_device(request.device)
    with job_control.taken(f"following words with {checkpoint.name}"):
        on_progress(f"Loading {checkpoint.name}", 0, 0)
        model = loading.load(checkpoint, device, cancelled=cancelled, library=library)
        result = _Following.of(request, checkpoint, model, job_control.check, on_progress).result()
    write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    return result


def _check_has_text(checkpoint: Checkpoint) -> None:
    if not checkpoint.can_generate:
        return  # loading reports what it is
    why = ""
    if checkpoint.conditioning is not Conditioning.TEXT:
        made = "the name of a class" if checkpoint.conditioning is Conditioning.CLASS else "noise alone"
        why = f"it generates from {made}"
    elif FAMILIES[checkpoint.family].one_call:
        why = "a VAE or GAN has no attention to words"
    if why:
        raise BadRequest(f"{checkpoint.name} has no attention maps of words", why, _OTHER)


@dataclass(frozen=True)
class _Following:
    """One image in progress."""

    request: AttentionRequest
    checkpoint: Checkpoint
    model: Model
    layers: Sequence[AttentionLayer]
    options: SampleOptions
    words: PromptWords
    prompt: EncodedPrompt
    check: Callable[[], None]
    on_progress: OnProgress

    @classmethod
    def of(
        cls,
        request: AttentionRequest,
        checkpoint: Checkpoint,
        model: Model,
        check: Callable[[], None],
        on_progress: OnProgress,
    ) -> _Following:
        layers = _layers_of(request.maps, checkpoint, model)
        options = _options(request, checkpoint, model)
        if options.guidance == 0 and is_trained_here(checkpoint.family):
            raise BadRequest("The CFG scale is 0", "the prompt has no effect then", "Choose 1 or more")
        model.check_size(options.width, options.height)
        words = words_of(model, request.prompt, request.negative, options.steps)
        prompt = model.encode_prompt(request.prompt, request.negative)
        return cls(request, checkpoint, model, layers, options, words, prompt, check, on_progress)

    def result(self) -> AttentionResult:
        _, height, width = self.model.state_shape(self.options.width, self.options.height)
        count = len(self.words.words)
        recording = AttentionRecording(self.layers, self.words.steps, count, (height, width))
        began = time.perf_counter()
        with recording.attached(self.model.network):
            picture = self._drawn("Generating", self.prompt, recording)
        seconds = time.perf_counter() - began
        maps = recording.maps.numpy()
        shares = self._times()
        file = save_image(picture, self.request.out, "picture")
        followed = self._followed(picture, maps)
        self._write_arrays(picture, maps, shares)
        return AttentionResult(
            self.checkpoint.name,
            self.request.prompt,
            self.layers[0].kind.value,
            {
                "seed": self.request.seed,
                "steps": self.options.steps,
                "sampler": self.options.sampler,
                "spacing": self.options.spacing,
                "guidance": self.options.guidance,
                "size": f"{self.options.width} × {self.options.height}",
            },
            followed,
            [layer.name for layer in self.layers],
            shares,
            file,
            ARRAYS,
            round(seconds, 3),
            self._notes(recording),
        )

    def _times(self) -> list[float]:
        """When each step begins, as a share of the largest time."""
        steps, options = self.options.steps, self.options
        if options.times:
            return [round(time, 6) for time in options.times]
        times = self.model.times(steps, options.spacing, 1.0, options.width, options.height)
        return [round(float(t) / float(self.model.schedule.t_max), 6) for t in times[:steps]]

    def _followed(self, picture: NDArray[np.uint8], maps: NDArray[np.float32]) -> list[FollowedWord]:
        with np.errstate(all="ignore"):
            whole = np.stack([_mean(word) for word in maps])  # [W,h,w]
        found = []
        for number, word in enumerate(self.words.words):
            name = f"{number + 1:02d}"
            overlay = save_image(over_image(picture, heat(whole[number])), self.request.out, f"word-{name}")
            one = FollowedWord(word.text, word.tokens, word.weight, overlay)
            if number < self.request.tested:
                others = [whole[other] for other in range(len(whole)) if other != number]
                one = self._tested(one, number, name, picture, whole[number], others)
            found.append(one)
        return found

    def _tested(
        self,
        word: FollowedWord,
        number: int,
        name: str,
        picture: NDArray[np.uint8],
        word_map: NDArray[np.float32],
        others: Sequence[NDArray[np.float32]],
    ) -> FollowedWord:
        masked = self._drawn(
            f"Masking {word.text}", MaskedPrompt(self.model, self.prompt, self.words.masking(number)), None
        )
        change = np.abs(masked.astype(np.float64) - picture.astype(np.float64)).mean(axis=2)
        test: DeletionTest = deletion_test(change, word_map, others)
        return replace(word, masked=save_image(masked, self.request.out, f"masked-{name}"), test=test)

    def _drawn(self, what: str, prompt: EncodedPrompt, recording: AttentionRecording | None) -> NDArray[np.uint8]:
        """The image [H,W,3] of an encoded prompt."""

        def wrap(denoiser: Denoiser) -> Denoiser:
            checked = CheckedDenoiser(denoiser, self.check)
            return checked if recording is None else recording.wrap(checked)

        state: Tensor | None = None
        self.on_progress(what, 0, self.options.steps)
        for step in sample(self.model, prompt, self.options, wrap=wrap):
            state = step.x
            if recording is not None:
                recording.next_step()
            self.on_progress(what, step.index, self.options.steps)
        assert state is not None
        image = self.model.decode(state)[0].float().cpu()
        if not bool(torch.isfinite(image).all()):
            raise CheckpointDamaged(
                f"The image of {self.checkpoint.name} has NaN or infinite values",
                remedy="Choose another checkpoint, or another data type",
            )
        levels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return np.ascontiguousarray(levels.expand(3, -1, -1).permute(1, 2, 0).numpy())

    def _write_arrays(self, picture: NDArray[np.uint8], maps: NDArray[np.float32], times: Sequence[float]) -> None:
        path = self.request.out / ARRAYS
        with atomic_write(path, f"{path.name} cannot be written") as file:
            np.savez_compressed(
                file,
                maps=maps.astype(np.float32),
                words=np.array([word.text for word in self.words.words]),
                layers=np.array([layer.name for layer in self.layers]),
                times=np.array(times, np.float64),
                picture=picture,
            )

    def _notes(self, recording: AttentionRecording) -> list[str]:
        about_prompt = PromptNotes(self.model, self.options.guidance).new([self.request.prompt], self.request.negative)
        notes = [*self.model.load_notes, *about_prompt]
        if self.words.cut:
            notes.append(
                f"The prompt is too long for the text encoder, so these words have no effect: {', '.join(self.words.cut)}."
            )
        left = len(self.words.words) - self.request.tested
        if self.request.tested and left > 0:
            notes.append(
                f"{count_of(left, 'more word')} {by_number(left, 'was', 'were')} not masked: choose a larger number to test them."
            )
        if recording.other_grids:
            notes.append(
                f"No maps were read from {', '.join(sorted(recording.other_grids))}: their tokens form no grid."
            )
        return notes


def _mean(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean [h,w] of a word's maps [L,S,h,w] over the layers and steps that have a map."""
    flat = maps.reshape(-1, *maps.shape[2:])
    known = ~np.isnan(flat[:, 0, 0])
    mean: NDArray[np.float32] = flat[known].mean(axis=0) if known.any() else np.zeros(maps.shape[2:], np.float32)
    return mean


def _layers_of(wanted: str, checkpoint: Checkpoint, model: Model) -> list[AttentionLayer]:
    """The layers for one kind of maps, by default the first kind that the model has. BadRequest if there are none."""
    layers = list(model.attention_layers)
    if not layers:
        raise BadRequest(f"The attention of {checkpoint.name} cannot be read", IN_A_PIPELINE, _OTHER)
    kind = layers[0].kind.value if wanted == AUTO else wanted
    found = [layer for layer in layers if layer.kind.value == kind]
    if not found:
        raise BadRequest(
            f"There are no maps of {wanted} for {checkpoint.name}",
            f"its maps are made from attention {layers[0].kind.value}",
            f"Choose {layers[0].kind.value}",
        )
    return found


def _options(request: AttentionRequest, checkpoint: Checkpoint, model: Model) -> SampleOptions:
    values = sampling_values(checkpoint, steps=request.steps or 0)
    if request.guidance is not None:
        values["guidance"] = request.guidance
    width, height = model.network_size
    if model.upper is not None:
        model.upper.check_base_alone(request.width or width, request.height or height)
    return SampleOptions(seeds=(request.seed,), width=request.width or width, height=request.height or height, **values)
