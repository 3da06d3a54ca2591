"""ControlNets from the request to the picture: found, loaded and kept beside the model, shown what they are to see,
told about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image, ImageDraw

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointMissing, ImageProblem
from diffstudio.models.library.library import Library
from diffstudio.models.memory.model_cache import weights_bytes
from diffstudio.studio.events import Cancelled, Event, Failed, Finished, ImageSaved, Loading
from diffstudio.studio.generation.control_preprocess import control_image
from diffstudio.studio.generation.controlnets import (
    RequestControlNets,
    control_type_of,
    controlnet_misfit,
    find_controlnet,
    find_controlnets,
)
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.choices import FillName, PreprocessorName, ResizeName
from diffstudio.studio.requests.control_types import CONTROL_TYPES, ControlTypeName
from tests.models import small
from tests.models.conditioning.test_controlnet import lively, lively_union
from tests.models.families.beside import their_scheduler
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import Studio

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers, with NumPy 2
    pytest.mark.filterwarnings("ignore:`Transformer2DModelOutput` is deprecated:FutureWarning"),
]
REQUEST = GenerateRequest(
    prompt="a red apple",
    negative="ugly",
    checkpoint="small",
    seed=11,
    steps=5,
    sampler="euler",
    spacing="trailing",
    guidance=4.0,
)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    pipes = {"sd1": small.small_sd1(), "sdxl": small.small_sdxl()}
    return pipes | {
        "edges": lively(pipes["sd1"].unet),
        "depth": lively(pipes["sd1"].unet, seed=4),
        "xl": lively(pipes["sdxl"].unet),
        "union": lively_union(pipes["sdxl"].unet),
    }


@pytest.fixture
def shelf(made: dict[str, Any]) -> Path:
    """Small checkpoints of Stable Diffusion 1 and XL, and ControlNets for them."""
    folder = paths.checkpoints()
    made["sd1"].save_pretrained(folder / "small")
    made["sdxl"].save_pretrained(folder / "small-xl")
    (folder / "controlnet").mkdir()
    message = {}
    for name, family in (("edges", "sd1"), ("depth", "sd1"), ("xl", "sdxl"), ("union", "sdxl")):
        made[name].save_pretrained(folder / "whole" / name)
        path = folder / "controlnet" / f"control_{name}.safetensors"
        (folder / "whole" / name / "diffusion_pytorch_model.safetensors").replace(path)
        message[str(path.absolute())] = {"family": family, "role": "controlnet"}  # narrower than any that is known
    for name, family in (("small", "sd1"), ("small-xl", "sdxl")):
        message[str((folder / name).absolute())] = {"family": family}
    paths.overrides().write_text(json.dumps({"format": 1, "files": message}), encoding="utf-8")
    return folder


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (96, 80), (240, 240, 230))
    ImageDraw.Draw(picture).ellipse((20, 10, 70, 60), fill=(30, 60, 160))
    picture.save(tmp_path / "drawing.png")
    return tmp_path / "drawing.png"


@pytest.fixture
def studio(shelf: Path) -> Iterator[Studio]:
    studio = Studio(previews=False)
    studio.worker.start()
    yield studio
    studio.close()


def one(studio: Studio, request: GenerateRequest) -> np.ndarray:
    (picture,) = studio.pixels(studio.done(request))
    return picture


def theirs(
    pipe: Any, kind: Any, request: GenerateRequest, nets: list[ControlNetModel], images: list[Any], **more: Any
) -> np.ndarray:
    """diffusers' own pipeline, shown what we show."""
    parts = pipe.components | {
        "controlnet": nets[0] if len(nets) == 1 else nets,
        "scheduler": their_scheduler("euler", "trailing"),
    }
    steered = kind(**parts, **more)
    steered.set_progress_bar_config(disable=True)
    scales = [use.scale for use in request.controls]
    spans = [[use.begins for use in request.controls], [use.ends for use in request.controls]]
    alone = len(nets) == 1
    picture = steered(
        request.prompt,
        negative_prompt=request.negative,
        image=images[0] if alone else images,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=[torch.Generator().manual_seed(request.seed)],
        width=64,
        height=64,
        controlnet_conditioning_scale=scales[0] if alone else scales,
        control_guidance_start=spans[0][0] if alone else spans[0],
        control_guidance_end=spans[1][0] if alone else spans[1],
    ).images[0]
    return np.array(picture)


def shown(use: ControlNetUse) -> Image.Image:
    return Image.fromarray(control_image(use, (64, 64), ResizeName.CROP))


def test_the_saved_picture_is_that_of_diffusers(studio: Studio, made: dict[str, Any], drawing: Path) -> None:
    edges = ControlNetUse("control_edges", drawing, PreprocessorName.CANNY, 0.8, low=50, high=150)
    depth = ControlNetUse("control_depth", drawing, PreprocessorName.INVERT, 0.6, 0.2, 0.8)
    kind = diffusers.StableDiffusionControlNetPipeline
    more = {"requires_safety_checker": False}
    request = replace(REQUEST, controls=(edges,))
    alone = one(studio, request)
    expected = theirs(made["sd1"], kind, request, [made["edges"]], [shown(edges)], **more)
    assert np.abs(alone.astype(int) - expected).max() <= 1
    request = replace(REQUEST, controls=(edges, depth))
    both = one(studio, request)
    expected = theirs(made["sd1"], kind, request, [made["edges"], made["depth"]], [shown(edges), shown(depth)], **more)
    assert np.abs(both.astype(int) - expected).max() <= 1
    plain = one(studio, REQUEST)
    assert not np.array_equal(alone, plain) and not np.array_equal(both, alone)


def test_for_xl_too(studio: Studio, made: dict[str, Any], drawing: Path) -> None:
    use = ControlNetUse("control_xl", drawing, PreprocessorName.CANNY, low=50, high=150)
    request = replace(REQUEST, checkpoint="small-xl", controls=(use,))
    expected = theirs(
        made["sdxl"],
        diffusers.StableDiffusionXLControlNetPipeline,
        request,
        [made["xl"]],
        [shown(request.controls[0])],
        add_watermarker=False,
    )
    assert np.abs(one(studio, request).astype(int) - expected).max() <= 1


UNION = replace(REQUEST, checkpoint="small-xl")


def test_a_union_with_several_images_is_that_of_diffusers(studio: Studio, made: dict[str, Any], drawing: Path) -> None:
    """Loaded once for both images; what the preprocessor determines need not be chosen. The file says what was used."""
    edges = ControlNetUse("control_union", drawing, PreprocessorName.CANNY, 0.8, low=50, high=150)
    depth = ControlNetUse("control_union", drawing, PreprocessorName.INVERT, 0.6, control_type=ControlTypeName.DEPTH)
    parts = made["sdxl"].components | {
        "controlnet": made["union"],
        "scheduler": their_scheduler("euler", "trailing"),
        "add_watermarker": False,
    }
    pipeline = diffusers.StableDiffusionXLControlNetUnionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    for uses, modes in (((edges,), [3]), ((edges, depth), [3, 1])):
        expected = pipeline(
            UNION.prompt,
            negative_prompt=UNION.negative,
            control_image=[shown(use) for use in uses],
            control_mode=modes,
            controlnet_conditioning_scale=[use.scale for use in uses],
            num_inference_steps=UNION.steps,
            guidance_scale=UNION.guidance,
            generator=[torch.Generator().manual_seed(UNION.seed)],
            width=64,
            height=64,
        ).images[0]
        job = studio.done(replace(UNION, controls=uses))
        (saved,) = [event for event in studio.of(job) if isinstance(event, ImageSaved)]
        assert np.abs(studio.pixels(job)[0].astype(int) - np.array(expected)).max() <= 1
    model = studio.worker._loader.cache.newest
    assert model is not None
    assert list(model.controlnets.components) == [str(paths.checkpoints() / "controlnet" / "control_union.safetensors")]  # type: ignore[attr-defined]
    settings = metadata.read(saved.path)
    assert settings.request == replace(UNION, controls=(edges, depth))
    assert [about["control_type"] for about in settings.environment["controlnets"]] == ["lines", "depth"]
    with Image.open(saved.path) as picture:
        text = picture.text["parameters"]  # type: ignore[attr-defined]
    assert text.count("Union Control Type: Hard Edge") == text.count("Union Control Type: Depth") == 1


def test_the_control_type_is_asked_for_where_nothing_determines_it(shelf: Path, drawing: Path) -> None:
    library, use = Library(), ControlNetUse("control_union", drawing)
    xl = library.find("small-xl")

    def found(*uses: ControlNetUse) -> int:
        return len(find_controlnets(replace(UNION, controls=uses), library, xl))

    for undetermined in (PreprocessorName.AS_GIVEN, PreprocessorName.INVERT):
        with pytest.raises(BadRequest, match=r"drawing.png shows.*openpose, depth, soft_edge, lines"):
            found(replace(use, prepare=undetermined))
    for preprocessor, made_type in (
        (PreprocessorName.CANNY, ControlTypeName.LINES),
        (PreprocessorName.SCRIBBLE, ControlTypeName.SOFT_EDGE),
    ):
        made_here = replace(use, prepare=preprocessor)
        assert control_type_of(made_here) is made_type and found(made_here) == 1
        assert control_type_of(replace(made_here, control_type=ControlTypeName.TILE)) is ControlTypeName.TILE
    assert found(*(replace(use, control_type=name) for name in CONTROL_TYPES[:6])) == 6
    for name in (ControlTypeName.TILE, ControlTypeName.REPAINT):
        with pytest.raises(BadRequest, match=f"does not have the control type {name}.*6 types.*ProMax"):
            found(replace(use, control_type=name))
    with pytest.raises(BadRequest, match="control_xl has no control types.*not a union"):
        found(ControlNetUse("control_xl", drawing, control_type=ControlTypeName.DEPTH))


def test_it_stays_beside_the_model_and_goes_with_it(studio: Studio, drawing: Path) -> None:
    request = replace(REQUEST, controls=(ControlNetUse("control_edges", drawing),))
    one(studio, REQUEST)
    model = studio.worker._loader.cache.newest
    assert model is not None
    alone = weights_bytes(model)
    first = studio.done(request)
    loading = [event for event in studio.of(first) if isinstance(event, Loading)]
    assert {event.what for event in loading} == {"Loading control_edges"} and loading[-1].fraction == 1.0
    fractions = [event.fraction for event in loading]
    assert fractions == sorted(fractions, key=lambda fraction: fraction or 0.0) and len(fractions) > 10
    beside = weights_bytes(model) - alone
    assert beside == sum(value.nbytes for value in model.controlnets.components.popitem()[1].parameters())  # type: ignore[attr-defined]
    assert "Loading" not in studio.kinds(studio.done(request)) and "Loading" not in studio.kinds(studio.done(REQUEST))
    studio.worker.settings = replace(studio.worker.settings, kept_gib=(alone + beside + 1000) / 2**30)
    studio.done(replace(request, controls=(ControlNetUse("control_depth", drawing),)))  # there is no room for both
    assert list(model.controlnets.components) == [str(paths.checkpoints() / "controlnet" / "control_depth.safetensors")]  # type: ignore[attr-defined]
    studio.worker._loader.cache.clear()
    assert studio.worker._loader.cache.newest is None


def test_batches_pictures_to_start_from_and_masks(studio: Studio, drawing: Path, tmp_path: Path) -> None:
    use = ControlNetUse("control_edges", drawing, PreprocessorName.CANNY, low=50, high=150)
    two = studio.pixels(studio.done(replace(REQUEST, controls=(use,), count=2)))
    assert np.abs(two[1].astype(int) - one(studio, replace(REQUEST, controls=(use,), seed=12))).max() <= 1
    white = np.zeros((80, 96), np.uint8)
    white[20:50, 30:70] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    start = replace(REQUEST, init=drawing, mask=tmp_path / "mask.png", strength=0.8, fill=FillName.NOISE)
    for request in (
        replace(start, mask=None, fill=FillName.ORIGINAL),
        start,
        replace(start, masked_only=True, padding=8),
    ):
        without, steered = one(studio, request), one(studio, replace(request, controls=(use,)))
        assert not np.array_equal(without, steered)
        if request.masked_only:
            kept = np.array(Image.open(drawing))[white == 0]
            assert np.array_equal(steered[white == 0], kept)


def test_of_a_part_that_is_made_it_sees_that_part(shelf: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffstudio.studio.generation import control_preprocess
    from diffstudio.studio.generation.init_image import InitImage

    asked: list[Any] = []
    monkeypatch.setattr(
        control_preprocess, "control_image", lambda *args: asked.append(args[1:]) or np.zeros((64, 64, 3), np.uint8)
    )
    whole = np.zeros((80, 96, 3), np.uint8)
    given = InitImage(np.zeros((64, 64, 3), np.uint8), None, whole, None, (8, 4, 40, 36))

    class Model:
        class controlnets:
            get = staticmethod(lambda checkpoint: torch.nn.Identity())

    for masked_only in (False, True):
        request = replace(
            REQUEST,
            controls=(ControlNetUse("control_edges", drawing),),
            init=drawing,
            mask=drawing,
            masked_only=masked_only,
        )
        controlnets = RequestControlNets(request, find_controlnets(request, Library(), None))
        controlnets.inputs(Model(), 64, 64, given)  # type: ignore[arg-type]
    assert asked == [((64, 64), ResizeName.CROP, None, None), ((64, 64), ResizeName.CROP, (96, 80), (8, 4, 40, 36))]


def test_restarting_replays_it(studio: Studio, drawing: Path) -> None:
    job = studio.done(replace(REQUEST, controls=(ControlNetUse("control_edges", drawing),)))
    again = studio.worker.restart(job, 3)
    assert isinstance(studio.ending(again), Finished)
    assert np.array_equal(*(studio.pixels(one)[0] for one in (job, again)))


def test_what_does_not_fit_is_said_before_anything_is_loaded(studio: Studio, drawing: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")
    use = ControlNetUse("control_edges", drawing)
    for request, message in (
        (replace(REQUEST, controls=(replace(use, network="control_edge"),)), "Choose one of: control_edges"),
        (replace(REQUEST, controls=(replace(use, network="small"),)), "small is not a ControlNet"),
        (replace(REQUEST, controls=(replace(use, network="control_xl"),)), "made for Stable Diffusion XL"),
        (replace(REQUEST, checkpoint="tiny", controls=(use,)), "does not support ControlNet"),
        (replace(REQUEST, controls=(replace(use, image=tmp_path / "gone.png"),)), "does not exist"),
    ):
        job = studio.worker.submit(request)
        failed = studio.ending(job)
        assert isinstance(failed, Failed) and message in str(failed.error), failed
        assert "Loading" not in studio.kinds(job)
    assert controlnet_misfit(find_controlnet(Library(), "CONTROL_EDGES"), Library().find("small")) == ""


def test_its_loading_can_be_stopped(studio: Studio, drawing: Path) -> None:
    heard = studio.hear

    def stop_in_the_middle(event: Event) -> None:
        heard(event)
        if isinstance(event, Loading) and "control_edges" in event.what and event.fraction:
            studio.worker.stop(event.job)

    studio.worker._emit = stop_in_the_middle
    job = studio.worker.submit(replace(REQUEST, controls=(ControlNetUse("control_edges", drawing),)))
    assert isinstance(studio.ending(job), Cancelled)
    model = studio.worker._loader.cache.newest
    assert model is not None and not model.controlnets.components and "ImageSaved" not in studio.kinds(job)  # type: ignore[attr-defined]


def test_the_file_says_what_steered_it(studio: Studio, shelf: Path, drawing: Path) -> None:
    uses = (
        ControlNetUse("control_edges", drawing, PreprocessorName.CANNY, 0.8, 0.1, 0.9, 60, 150),
        ControlNetUse("control_depth", drawing),
    )
    request = replace(REQUEST, controls=uses)
    (saved,) = [event for event in studio.of(studio.done(request)) if isinstance(event, ImageSaved)]
    settings = metadata.read(saved.path)
    assert settings.request == request and settings.asked == request
    file = shelf / "controlnet" / "control_edges.safetensors"
    stored = settings.environment["controlnets"]
    assert (
        stored[0]["name"] == "control_edges" and stored[0]["hash"] == hashlib.sha256(file.read_bytes()).hexdigest()[:10]
    )
    with Image.open(saved.path) as picture:
        text = picture.text["parameters"]  # type: ignore[attr-defined]
    assert (
        'ControlNet 0: "Module: canny, Model: control_edges [' in text
        and "Weight: 0.8, Resize Mode: Crop and Resize" in text
        and "Threshold A: 60, Threshold B: 150, Guidance Start: 0.1, Guidance End: 0.9" in text
        and "ControlNet 1:" in text
    )
    read = metadata.settings_from_parameters(text)
    assert read.request.controls == () and read.not_imported[:2] == (
        "ControlNet 0, control_edges: canny, weight 0.8, from 0.1 to 0.9, without its control image",
        "ControlNet 1, control_depth: none, weight 1, without its control image",
    )


def test_requests_say_what_makes_no_sense(drawing: Path) -> None:
    for values in (
        {"begins": 0.5, "ends": 0.5},
        {"scale": -1},
        {"low": 300, "high": 200},
        {"prepare": "magic"},
        {"network": ""},
    ):
        with pytest.raises(BadRequest):
            ControlNetUse(**{"network": "x", "image": drawing} | values)  # type: ignore[arg-type]
    use = ControlNetUse("x", drawing)
    with pytest.raises(BadRequest, match="the limit is 8"):
        GenerateRequest(controls=(use,) * 9)
    request = GenerateRequest(controls=[use])  # type: ignore[arg-type]
    assert GenerateRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    for hostile in ([1], [{}], "x", 5, [{"network": "a"}, None], [{"network": "a", "image": 3, "scale": []}]):
        with pytest.raises(BadRequest):
            GenerateRequest.from_json({"format": 1, "controls": hostile})
    with pytest.raises(ImageProblem, match="another computer"):
        metadata._ours(json.dumps(GenerateRequest(controls=(ControlNetUse("x", Path("//far/away.png")),)).to_json()))
    with pytest.raises(CheckpointMissing, match="Put its file"):
        find_controlnet(Library(), "x")
