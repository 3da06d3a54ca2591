"""Every other text-to-image pipeline of diffusers: it samples by itself, and can be paused and stopped between steps.

The pipeline has its own sampler and spacing, whatever a request says; size, negative prompt and guidance are passed on
as far as the pipeline takes them. Code that comes with a folder is never run.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.samplers import SAMPLERS, Step
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule, VarianceExploding
from diffstudio.diffusion.spacing_problems import check_steps
from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.adapters.adapters import Adapters
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components, invalid_config_errors
from diffstudio.models.components.module_weights import missing_clause
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.detection.families_table import FAMILIES, Family
from diffstudio.models.families.pipelines.pipeline_class import pipeline_class
from diffstudio.models.families.pipelines.pipeline_stepper import PipelineStepper, is_flow
from diffstudio.models.families.pipelines.stepped_pipeline import SteppedPipeline, output_images
from diffstudio.models.files.file_access import first_line
from diffstudio.models.model import (
    IN_A_PIPELINE,
    ONE_SIZE_ONLY,
    EncodedPrompt,
    Model,
    OwnSampler,
    PromptEncoder,
    multiples_of,
    not_step_by_step,
    text_only,
    unsupported_size,
)

FAMILY = "diffusers"
_LARGEST_SIDE = 4096  # px
_SIDE = 1024  # px, of a pipeline that does not say what it was trained at


@dataclass(frozen=True, slots=True)
class PipelinePrompt(EncodedPrompt):
    positive: tuple[str, ...]
    negative: tuple[str, ...]


class DiffusersPipelineModel(Model):
    """A diffusers pipeline as a Model with its own sampler.

    States are its latents; the last step's state is the images.
    """

    guides_last_call = True  # as the pipeline does

    def __init__(
        self, checkpoint: Checkpoint | None, pipeline: Any, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.checkpoint, self.pipeline = checkpoint, pipeline
        self.device, self.dtype = device, dtype
        self.takes: Mapping[str, inspect.Parameter] = inspect.signature(pipeline.__call__).parameters
        self.schedule: Schedule = (
            RectifiedFlow() if is_flow(pipeline.components.get("scheduler")) else VarianceExploding()
        )
        guidance = self.takes[name].default if (name := self._guidance_name) else None
        self.guidance = float(guidance) if isinstance(guidance, (int, float)) else FAMILIES[FAMILY].guidance
        modules = _modules(pipeline)
        self.network = next(
            (modules[name] for name in ("transformer", "unet", "prior", "decoder") if name in modules), nn.Module()
        )
        self.text_encoders = {name: module for name, module in modules.items() if "text_encoder" in name}
        self.vae = modules.get("vae")

    @property
    def own_sampler(self) -> OwnSampler:
        return self

    @property
    def family(self) -> Family:
        return FAMILIES[FAMILY]

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        modules = _modules(self.pipeline)
        return {"network" if module is self.network else name: module for name, module in modules.items()}

    @cached_property
    def adapters(self) -> Adapters:
        return Adapters(self.network, self.text_encoders)

    @property
    def default_size(self) -> tuple[int, int]:
        config: Any = getattr(self.network, "config", {})
        size = getattr(self.pipeline, "default_sample_size", None) or config.get("sample_size")
        sides = size if isinstance(size, (tuple, list)) else (size, size)
        height, width = (side * self._scale_factor if isinstance(side, int) else _SIDE for side in sides[:2])
        return width, height

    @property
    def _scale_factor(self) -> int:
        """Image px per latent px, along a side."""
        factor = getattr(self.pipeline, "vae_scale_factor", 8)
        return factor if isinstance(factor, int) else 8

    @property
    def multiple(self) -> int:
        return FAMILIES[FAMILY].multiple

    @property
    def samplers(self) -> tuple[str, ...]:
        """Any name is accepted and ignored."""
        return tuple(SAMPLERS)

    def check_size(self, width: int, height: int) -> None:
        free = "width" in self.takes and "height" in self.takes
        if not free and (width, height) != self.default_size:
            raise unsupported_size(width, height, ONE_SIZE_ONLY, " × ".join(map(str, self.default_size)))
        multiple = self.multiple
        if (
            width % multiple
            or height % multiple
            or not multiple <= min(width, height) <= max(width, height) <= _LARGEST_SIDE
        ):
            near = " × ".join(
                str(min(_LARGEST_SIDE, max(multiple, round(side / multiple) * multiple))) for side in (width, height)
            )
            raise unsupported_size(width, height, multiples_of(multiple, _LARGEST_SIDE), near)

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return 3, height, width

    @property
    def prompt_features(self) -> PromptFeature:
        return PromptFeature.TEXT | (PromptFeature.NEGATIVE if "negative_prompt" in self.takes else PromptFeature.NONE)

    def prompt_encoder(self, clip_skip: int | None) -> PromptEncoder:
        """The pipeline encodes them itself when it runs."""
        return lambda texts: PipelinePrompt(texts.positive[0], texts.negative)

    def encode_image(self, image: Tensor) -> Tensor:
        raise text_only()

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """Evenly spaced: the pipeline chooses its own timesteps."""
        check_steps(steps)
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        raise not_step_by_step(IN_A_PIPELINE)

    def decode(self, state: Tensor) -> Tensor:
        return state

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        rgb = state[:, :3] if state.shape[1] >= 3 else state[:, :1].expand(-1, 3, -1, -1)
        return rgb.clamp(-1, 1)

    # ---- sampling ----------------------------------------------------------------------------------------------------

    def run(
        self,
        prompt: EncodedPrompt,
        seeds: Sequence[int],
        width: int,
        height: int,
        steps: int,
        guidance: float,
        wrap: Callable[[Denoiser], Denoiser] | None = None,
        *,
        truncation: float = 1.0,
    ) -> Iterator[Step]:
        """One Step for each of `steps`, however many calls of its network the pipeline makes.

        What `wrap` returns is called before each of those calls. BadRequest if the pipeline refuses the request.
        """
        assert isinstance(prompt, PipelinePrompt)
        call = self._call(prompt, seeds, width, height, steps, guidance)
        with PipelineStepper(lambda: self.pipeline(**call), self._schedulers) as stepper:
            running = SteppedPipeline(stepper, self.schedule, width // self._scale_factor, height // self._scale_factor)
            denoiser = wrap(running) if wrap is not None else running
            x, t, index = torch.zeros(len(seeds), 3, 1, 1, device=self.device), self.schedule.t_max, 0
            while True:
                running.expect_one_more()
                denoised = denoiser(x, torch.full((len(seeds),), t, dtype=torch.float64))
                if running.output is not None:
                    yield Step(steps, 0.0, output_images(running.output).to(self.device), denoised)
                    return
                x, t, before = running.latents(denoised), running.level(t), index
                index = max(index, int(running.share * steps + 1e-6)) if running.advanced else index + 1
                index = min(steps - 1, index)
                if index > before:
                    yield Step(index, t, x, denoised)

    def _call(
        self, prompt: PipelinePrompt, seeds: Sequence[int], width: int, height: int, steps: int, guidance: float
    ) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "prompt": list(prompt.positive),
            "width": width,
            "height": height,
            "num_inference_steps": steps,
            "output_type": "pt",
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        }
        if (name := self._guidance_name) is not None:
            arguments[name] = guidance
        if any(prompt.negative) or self._guidance_name == "true_cfg_scale":
            arguments["negative_prompt"] = list(prompt.negative)
        return {name: value for name, value in arguments.items() if name in self.takes}

    @property
    def _schedulers(self) -> list[Any]:
        """The pipeline's scheduler, or one for each half of a two-stage pipeline."""
        found = {
            id(component): component
            for name, component in self.pipeline.components.items()
            if name.endswith("scheduler") and component is not None
        }
        return list(found.values())

    @property
    def _guidance_name(self) -> str | None:
        """The name of the CFG scale. `guidance_scale` of Qwen-Image is the input of distilled models, and None."""
        names = [
            name
            for name in ("guidance_scale", "true_cfg_scale")
            if name in self.takes and self.takes[name].default is not None
        ]
        return names[0] if names else None


def _modules(pipeline: Any) -> dict[str, nn.Module]:
    """The pipeline's components that are modules, by diffusers' names."""
    return {name: component for name, component in pipeline.components.items() if isinstance(component, nn.Module)}


# ---- loading ---------------------------------------------------------------------------------------------------------


def load(
    checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype
) -> DiffusersPipelineModel:
    """Load a diffusers folder as its own pipeline.

    CheckpointDamaged; CheckpointUnknown for a pipeline that diffusers lacks, that needs code from the folder, or that
    is not text-to-image. Weights that transformers fills with random values are named in the model's `load_notes`.
    """
    kind = pipeline_class(checkpoint)
    plain = list(checkpoint.path.glob("*/*.safetensors"))
    variant = "fp16" if plain and all(".fp16." in file.name for file in plain) else None
    try:
        with _LoadReport() as report:
            pipeline = kind.from_pretrained(
                checkpoint.path, dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True
            )
    except ImportError as error:
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot be used here",
            str(error).strip().partition("\n")[0][:200],
            "Install what is missing, or choose another checkpoint",
        ) from error
    except invalid_config_errors() as error:
        raise CheckpointDamaged(
            f"{checkpoint.name} cannot be loaded", first_line(error), "Download it again"
        ) from error
    modules = _modules(pipeline)
    if absent := [
        f"{name}.{key}" for name, module in modules.items() for key, value in module.named_parameters() if value.is_meta
    ]:  # diffusers only warns
        raise CheckpointDamaged(f"{checkpoint.name} cannot be loaded", missing_clause(absent), "Download it again")
    pipeline.set_progress_bar_config(disable=True)
    for module in modules.values():
        module.eval().requires_grad_(False)
    model = DiffusersPipelineModel(checkpoint, pipeline.to(device), device=device, dtype=dtype)
    if report.missing:
        filled = f"{missing_clause(report.missing)}; random values were used instead"
        model.load_notes = (f"{checkpoint.name} is incomplete: {filled}.",)
    return model


class _LoadReport(logging.Handler):
    """Collects the keys of missing weights that transformers reports while a pipeline is loaded.

    A pipeline gives no access to the report of its components, so it is read from the log.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.missing: list[str] = []

    def __enter__(self) -> Self:
        logging.getLogger("transformers").addHandler(self)
        return self

    def __exit__(self, *raised: object) -> None:
        logging.getLogger("transformers").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.missing += re.findall(r"^(\S+)\s*\|\s*MISSING", record.getMessage(), re.MULTILINE)
