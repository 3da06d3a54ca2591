"""Generation settings in image files: written into every PNG, and read from our files and other programs'.

A PNG made here carries its request twice: `parameters`, the text that AUTOMATIC1111 introduced and most programs
read, and `diffstudio`, JSON with the whole request and what else decides the pixels, which reproduces it exactly.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffstudio import __version__
from diffstudio.atomic import atomic_write
from diffstudio.errors import BadRequest, ImageProblem, no_image_at
from diffstudio.imaging.colour import srgb_chunks, srgb_profile
from diffstudio.imaging.reader import flatten, read_image
from diffstudio.paths import valid_utf8
from diffstudio.storage_errors import not_written
from diffstudio.studio.metadata import import_settings
from diffstudio.studio.metadata.gaps import Gaps
from diffstudio.studio.metadata.image_text import ImageText, read_text
from diffstudio.studio.metadata.named_files import find_near, from_shareable_json, located, shareable, to_shareable_json
from diffstudio.studio.metadata.readers import a1111_controlnet, a1111_text
from diffstudio.studio.metadata.readers.found_settings import as_object, json_object
from diffstudio.studio.metadata.sampler_names import A1111_SPACINGS, SAMPLER_LABELS, shortened
from diffstudio.studio.metadata.stored_request import stored_request
from diffstudio.studio.prompts import lora_tags
from diffstudio.studio.prompts.wildcards import escaped
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.studio.requests.choices import FillName
from diffstudio.studio.requests.field_names import value_phrase
from diffstudio.studio.requests.limits import LONGEST_PROMPT

JSON_KEY = "diffstudio"
TEXT_KEY = "parameters"
LARGEST_WEBP_SIDE = 16_383  # px
LARGEST_JSON_CHARACTERS = 1 << 20
_LARGEST_JPEG_COMMENT_BYTES = 65_000  # all EXIF metadata of a JPEG must fit into one segment of 65,533 bytes
_SETTINGS = {
    JSON_KEY,
    TEXT_KEY,
    "prompt",
    "invokeai_metadata",
    "sd-metadata",
    "Dream",
    "Comment",
}  # texts with settings
_EXPANDED = ("prompt", "negative")  # of one image, where wildcards were expanded


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """How an image was made, as far as a request can hold it."""

    request: PictureRequest  # for this image alone: its own seed, count 1
    source: str  # the program that made it
    not_imported: tuple[str, ...] = ()  # settings that a request cannot hold, a phrase each
    asked: PictureRequest | None = None  # of diffstudio's images: the whole request, of which this is one image
    environment: Mapping[str, Any] = field(
        default_factory=dict
    )  # of diffstudio's images: version, torch, device, dtype, batch …
    width: int = 0  # px of the file
    height: int = 0
    not_held: frozenset[str] = frozenset()  # fields of the request that hold defaults instead of the image's values

    @property
    def gaps(self) -> Gaps:
        return Gaps(self.not_held, self.not_imported)

    @property
    def checkpoint(self) -> str:
        """The name of the checkpoint that made it, also where the request gave a path; empty where it is not known."""
        name = self.environment.get("model")
        if isinstance(name, str) and name:
            return name
        return "" if "checkpoint" in self.not_held else self.request.checkpoint


def parameters_text(request: PictureRequest, about: Mapping[str, Any]) -> str:
    """The request in AUTOMATIC1111's grammar (`create_infotext` and `parse_generation_parameters` there).

    `about` may hold `index` (which of the request's images, 0-based), `width` and `height` (px, as made, before they
    were enlarged), `model` (what to call the checkpoint), `model_hash`, `version`, and `prompt` and `negative`: what
    the request's expanded to. For an upscaled image, `source_text` is the infotext of the image that was upscaled.
    """
    if isinstance(request, UpscaleRequest):
        return _upscaled_text(request, about)
    prompt, negative = about.get("prompt", request.prompt), about.get("negative", request.negative)
    width, height = about.get("width", request.width), about.get("height", request.height)
    fields: dict[str, Any] = {
        "Steps": request.steps,
        "Sampler": SAMPLER_LABELS[request.sampler],
        "Schedule type": A1111_SPACINGS[request.spacing],
        a1111_text.STEP_TIMES: " ".join(map(repr, request.times)) or None,
        a1111_text.NOISE_SCHEDULE: _curve_text(request),
        "CFG scale": _plain(request.guidance),
        a1111_text.GUIDE_LAST_CALL: _yes_or_no(request.guide_last_call),
        **_guidance_fields(request),
        a1111_text.TRUNCATION: None if request.truncation == 1 else _plain(request.truncation),
        "Seed": request.seed + int(about.get("index", 0)),
        "Size": f"{width}x{height}" if width and height else None,
        "Model hash": about.get("model_hash"),
        "Model": about.get("model") or Path(request.checkpoint).name.removesuffix(".safetensors"),
        "VAE": Path(request.vae).name or None,
        "Clip skip": request.clip_skip,
        "Denoising strength": _plain(request.strength) if request.init is not None else None,
        **_hires_fields(request),
        **_inpaint_fields(request),
        **a1111_controlnet.fields(request, about.get("controlnets")),
        "Template": request.prompt if prompt != request.prompt else None,
        "Negative Template": request.negative if negative != request.negative else None,
        "Lora hashes": lora_tags.hashes_text(about.get("loras")),
        "TI hashes": lora_tags.hashes_text(about.get("embeddings")),
        "Version": f"diffstudio {about.get('version', __version__)}",
    }
    return _lines(prompt, negative, fields)


def _lines(prompt: str, negative: str, fields: Mapping[str, Any]) -> str:
    lines = [prompt]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    shown = {name: a1111_text.quoted(str(value)) for name, value in fields.items() if value not in (None, "")}
    lines.append(", ".join(f"{name}: {value}" for name, value in shown.items()))
    return storable("\n".join(lines))


def _curve_text(request: PictureRequest) -> str | None:
    return None if request.curve is None else json.dumps(request.curve.to_json(), ensure_ascii=False)


def _yes_or_no(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def storable(text: str) -> str:
    """Text that files and databases can hold: without NUL, and valid UTF-8, which half a surrogate pair is not."""
    return valid_utf8(text.replace("\0", " "))


def _guidance_fields(request: GenerateRequest) -> dict[str, Any]:
    """Fields for the guidance interval and autoguidance (our own), and for CADS (as in sd-webui-cads)."""
    fields: dict[str, Any] = {}
    if request.guidance_interval is not None:
        fields["Guidance interval"] = " to ".join(map(_plain, request.guidance_interval))
    if request.autoguidance:
        fields |= {
            "Autoguidance": Path(request.autoguidance).name.removesuffix(".safetensors"),
            "Autoguidance scale": _plain(request.autoguidance_scale),
        }
    if request.cads > 0:
        fields |= {
            "CADS Active": True,
            "CADS Tau 1": _plain(request.cads_tau1),
            "CADS Tau 2": _plain(request.cads_tau2),
            "CADS Noise Scale": _plain(request.cads),
            "CADS Mixing Factor": _plain(request.cads_mixing),
        }
    return fields


def _hires_fields(request: GenerateRequest) -> dict[str, Any]:
    """AUTOMATIC1111's fields of the hires fix. Its strength is `Denoising strength`, unless that is the first pass's."""
    if request.enlarge <= 1:
        return {}
    strength = "Hires denoising strength" if request.init is not None else "Denoising strength"
    return {
        strength: _plain(request.enlarge_strength),
        "Hires upscale": _plain(request.enlarge),
        "Hires steps": request.enlarge_steps or None,
        "Hires upscaler": import_settings.upscaler_label(request.upscaler),
        "Hires CFG Scale": None if request.enlarge_guidance is None else _plain(request.enlarge_guidance),
        "Hires tiles": "yes" if request.tiled else None,
    }


def _upscaled_text(request: UpscaleRequest, about: Mapping[str, Any]) -> str:
    """As AUTOMATIC1111's Extras tab writes it: the source image's infotext, then `Postprocess …`."""
    done = {
        "Postprocess upscale by": _plain(request.scale),
        "Postprocess upscaler": import_settings.upscaler_label(request.upscaler),
    }
    before = str(about.get("source_text") or "").strip()
    if not request.checkpoint and before:
        return storable(
            f"{before}, " + ", ".join(f"{name}: {a1111_text.quoted(str(value))}" for name, value in done.items())
        )
    sampled = (
        {}
        if not request.checkpoint
        else {
            "Steps": request.steps,
            "Sampler": SAMPLER_LABELS[request.sampler],
            "Schedule type": A1111_SPACINGS[request.spacing],
            a1111_text.STEP_TIMES: " ".join(map(repr, request.times)) or None,
            a1111_text.NOISE_SCHEDULE: _curve_text(request),
            "CFG scale": _plain(request.guidance),
            a1111_text.GUIDE_LAST_CALL: _yes_or_no(request.guide_last_call),
            "Seed": request.seed,
            "Model hash": about.get("model_hash"),
            "Model": about.get("model") or Path(request.checkpoint).name,
            "Clip skip": request.clip_skip,
            "Denoising strength": _plain(request.strength),
        }
    )
    size = f"{about['width']}x{about['height']}" if about.get("width") and about.get("height") else None
    return _lines(
        request.prompt,
        request.negative,
        sampled | {"Size": size} | done | {"Version": f"diffstudio {about.get('version', __version__)}"},
    )


_FILLS = {FillName.SURROUNDINGS: "fill", FillName.NOISE: "latent noise", FillName.NOTHING: "latent nothing"}


def _inpaint_fields(request: GenerateRequest) -> dict[str, Any]:
    """AUTOMATIC1111's names of the inpainting settings; `Outpaint` is ours."""
    if request.mask is None and not any(request.outpaint):
        return {}
    return {
        "Mask blur": request.feather or None,
        "Masked content": _FILLS.get(request.fill),
        "Inpaint area": "Only masked" if request.masked_only else None,
        "Masked area padding": request.padding if request.masked_only else None,
        "Outpaint": ",".join(map(str, request.outpaint)) if any(request.outpaint) else None,
    }


def request_json(request: PictureRequest, about: Mapping[str, Any]) -> str:
    """The whole request, with `image` (which one this is) and `environment`; files by name and hash (`named_files`)."""
    index = int(about.get("index", 0))
    environment = {name: value for name, value in about.items() if name not in ("index", "source_text", *_EXPANDED)}
    environment.setdefault("version", __version__)
    this = {"index": index, "seed": request.seed + index} | {name: about[name] for name in _EXPANDED if name in about}
    values = to_shareable_json(request) | {"image": this, "environment": environment}
    return json.dumps(values, default=str)


def of_one(request: PictureRequest, about: Mapping[str, Any]) -> PictureRequest:
    """One image's own request: its seed, count 1, and what the wildcards came to. `about` as in `parameters_text`."""
    if isinstance(request, UpscaleRequest):
        return request
    expanded = {name: escaped(about[name]) for name in _EXPANDED if isinstance(about.get(name), str)}
    return replace(
        request,
        seed=request.seed + int(about.get("index", 0)),
        count=1,
        prompt=expanded.get("prompt", request.prompt),
        negative=expanded.get("negative", request.negative),
    )


def write(image: Image.Image, request: PictureRequest, about: Mapping[str, Any]) -> PngInfo:
    """The texts for `image.save(path, pnginfo=…)`: `parameters` and `diffstudio`.

    `about`: JSON values that say how the pixels came to be: `index`, `torch`, `device`, `dtype`, `batch` (the seeds
    computed together, in order), `model`, `model_hash`, `prompt` and `negative` where the request's are templates,
    and whatever else; version and size are added.
    """
    named, about = shareable(request, {"width": image.width, "height": image.height} | dict(about))
    texts = srgb_chunks()
    texts.add_text(TEXT_KEY, parameters_text(named, about))
    texts.add_text(JSON_KEY, request_json(request, about))
    return texts


def read(path: Path) -> ImageSettings:
    """The settings in an image file: diffstudio's exactly, other programs' as far as a request can hold them.

    A file that it was made from is looked for where it was used, and beside the image; see `named_files`.

    Raises ImageProblem when the file is not an image, is damaged, or holds no settings.
    """
    settings = settings_of(read_text(path), path.name)

    def found(request: PictureRequest) -> PictureRequest:
        return located(request, lambda named: find_near(named, [path.parent]))

    asked = found(settings.asked) if settings.asked is not None else None
    return replace(settings, request=found(settings.request), asked=asked)


def settings_of(text: ImageText, name: str) -> ImageSettings:
    """As `read`, from texts already taken from the file called `name`."""
    unread = [f"the text {keyword}, which is damaged or too large" for keyword in text.unread if keyword in _SETTINGS]
    if JSON_KEY in text.texts:
        try:
            settings = _ours(text.texts[JSON_KEY])
        except (ImageProblem, BadRequest) as error:
            if TEXT_KEY not in text.texts:
                raise
            unread.append(f"the exact settings: {str(error).rstrip('.')}")
        else:
            return replace(settings, width=text.width, height=text.height)
    imported = import_settings.read_texts(text.texts, text.width, text.height)
    if imported is None and unread:
        raise ImageProblem(f"The settings in {name} cannot be read", "; ".join(unread), import_settings.CHOOSE_ANOTHER)
    if imported is None and any(json_object(text.texts.get(keyword)) for keyword in ("prompt", "workflow")):
        raise ImageProblem(
            f"No settings were found in {name}",
            "its ComfyUI workflow has no sampler that is known here",
            import_settings.CHOOSE_ANOTHER,
        )
    if imported is None:
        raise ImageProblem(
            f"{name} holds no settings",
            "it was not made by a program that writes them, or they were removed",
            import_settings.CHOOSE_ANOTHER,
        )
    not_imported = (*unread, *imported.not_imported)
    return ImageSettings(
        imported.request,
        imported.source,
        not_imported,
        width=text.width,
        height=text.height,
        not_held=imported.not_held,
    )


def settings_from_parameters(text: str) -> ImageSettings:
    """The settings in a text of AUTOMATIC1111's grammar. Raises ImageProblem when it is none."""
    imported = import_settings.read_parameters(text)
    if imported is None:
        raise ImageProblem(
            "The text holds no generation settings", remedy="Paste the whole text, with the line `Steps: …`"
        )
    return ImageSettings(imported.request, imported.source, imported.not_imported, not_held=imported.not_held)


def request_from_parameters(text: str) -> PictureRequest:
    """The request in a text of AUTOMATIC1111's grammar, as far as a request can hold it. ImageProblem when it is none."""
    return settings_from_parameters(text).request


def save_copy(source: Path, target: Path) -> None:
    """Save a copy of an image: byte for byte, or as JPEG or WebP where the new name says so, its settings in EXIF.

    ImageProblem when the image cannot be read or the format is not one of these, StorageProblem when it
    cannot be written. The file appears whole or not at all.
    """
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".png": "PNG"}
    kind = formats.get(target.suffix.lower())
    if kind is None:
        ending = target.suffix or "a name without an ending"
        raise ImageProblem(
            f"{target.name} was not written", f"{ending} is not a supported image format", "Name it .png, .jpg or .webp"
        )
    if not source.exists():
        raise no_image_at(source)
    with atomic_write(target, not_written(target)) as file:
        if kind == formats.get(source.suffix.lower()):
            with source.open("rb") as original:
                shutil.copyfileobj(original, file)
        else:
            image, size = read_image(source)
            if kind == "WEBP" and max(size) > LARGEST_WEBP_SIDE:
                raise ImageProblem(
                    f"{target.name} was not written",
                    f"WebP holds at most {LARGEST_WEBP_SIDE:,} px a side and the image has {size[0]:,} × {size[1]:,}",
                    "Save it as PNG or JPEG",
                )
            exif = Image.Exif()
            text = read_text(source).texts.get(TEXT_KEY, "")
            if text:
                comment = b"UNICODE\0" + text.encode("utf-16-be", "surrogatepass")
                if kind == "JPEG" and len(comment) > _LARGEST_JPEG_COMMENT_BYTES:
                    raise ImageProblem(
                        f"{target.name} was not written",
                        f"its settings are too long for a JPEG: {len(text):,} characters",
                        "Save it as PNG or WebP",
                    )
                exif.get_ifd(0x8769)[0x9286] = comment
            image = flatten(image) if kind == "JPEG" else image
            image.save(file, kind, quality=95, exif=exif, icc_profile=srgb_profile())


def _ours(text: str) -> ImageSettings:
    values = json_object(text) if len(text) <= LARGEST_JSON_CHARACTERS else None
    if values is None or values.get("kind", "generate") not in ("generate", "upscale"):
        raise ImageProblem(import_settings.DAMAGED, remedy=import_settings.CHOOSE_ANOTHER)
    asked, dropped = stored_request({"kind": "generate"} | from_shareable_json(values))
    import_settings.check_paths(asked)
    image = as_object(values.get("image"))
    index = image.get("index", 0)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < asked.count:
        dropped.append(f"which of the {asked.count:,} images this is: {shortened(index)}")
        index = 0
    expanded = {name: image[name] for name in _EXPANDED if name in image}
    wrong = {
        name for name, value in expanded.items() if not isinstance(value, str) or len(escaped(value)) > LONGEST_PROMPT
    }
    dropped += [value_phrase(name, shortened(expanded[name])) for name in sorted(wrong)]
    request = of_one(asked, {name: value for name, value in expanded.items() if name not in wrong} | {"index": index})
    return ImageSettings(
        request, "diffstudio", tuple(dropped), asked=asked, environment=as_object(values.get("environment"))
    )


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(float(number))
