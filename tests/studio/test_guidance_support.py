"""What each family supports of guidance, and the weaker checkpoints that are offered and taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, CheckpointMissing
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import Role
from diffstudio.models.fitted_steps.distilled import KEY
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.guidance_support import (
    check_supported,
    earlier_checkpoints,
    find_weak_model,
    fitting,
    guidance_support,
    misfit,
    suggested,
)
from diffstudio.studio.requests import GenerateRequest
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint

INTERVAL = GenerateRequest(guidance_interval=(0.1, 0.8))
CADS = GenerateRequest(cads=0.2)
AUTO = GenerateRequest(autoguidance="weak")


def test_every_family_says_what_it_supports() -> None:
    """A new family with its own sampler is refused by name, without a line here."""
    support = {name: guidance_support(checkpoint(family=name)) for name in FAMILIES}
    everything = {name for name, one in support.items() if not (one.interval or one.autoguidance or one.cads)}
    assert everything >= {"pixel", "sd1", "sd2", "sdxl", "sd3", "z_image", "qwen_image"}
    assert "input of its network" in support["flux"].interval and not support["flux"].cads
    assert "another diffusers pipeline" in support["diffusers"].cads
    for request, what in ((INTERVAL, "a guidance interval"), (CADS, "CADS"), (AUTO, "autoguidance")):
        with pytest.raises(BadRequest, match=f"pipe does not support {what}: its images are not sampled step by step"):
            check_supported(request, checkpoint("pipe", family="diffusers"))
        check_supported(request, checkpoint())
    check_supported(GenerateRequest(), checkpoint(family="diffusers"))
    with pytest.raises(BadRequest, match="unheard of"):
        check_supported(CADS, checkpoint(family="unheard of"))


def test_a_checkpoint_tuned_to_few_steps_has_its_guidance_built_in() -> None:
    few = checkpoint("few", metadata={KEY: json.dumps({"teacher": "cats", "sha256": "", "guidance": 3.0})})
    for request, what in ((INTERVAL, "a guidance interval"), (CADS, "CADS"), (AUTO, "autoguidance")):
        with pytest.raises(BadRequest, match=f"few does not support {what}: it was distilled to few steps"):
            check_supported(request, few)
    assert misfit(few, checkpoint()) == "it was distilled to few steps" and not fitting(few, [checkpoint()])


def test_unconditional_checkpoints_have_autoguidance_alone() -> None:
    plain = checkpoint("dots", conditioning=Conditioning.NONE)
    check_supported(replace(AUTO, guidance_interval=(0.2, 0.8)), plain)  # of autoguidance, then
    for request in (INTERVAL, CADS):
        with pytest.raises(BadRequest, match="it is unconditional"):
            check_supported(request, plain)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "starter"}, "the same checkpoint"),
        ({"role": Role.VAE}, "does not generate images"),
        ({"family": "sd1"}, "another family"),
        ({"conditioning": Conditioning.CLASS}, "its conditioning is class, not text"),
        ({"inpainting": True}, "inpainting"),
        ({"classes": ("a",)}, "its classes differ"),
        ({"width": 32}, "it was trained at 32 × 64 px, not at 64 × 64 px"),
        ({}, ""),
    ],
)
def test_a_weaker_model_has_the_same_family_and_shapes(changes: dict[str, object], why: str) -> None:
    weak = checkpoint(**({"name": "weak"} | changes))  # type: ignore[arg-type]
    found = misfit(weak, checkpoint())
    assert why in found and bool(found) is bool(why)
    assert fitting(checkpoint(), [weak]) == ([] if why else [weak])
    assert fitting(checkpoint(family="diffusers"), [checkpoint("other", family="diffusers")]) == []


def test_the_weaker_model_is_found_by_name_and_checked(home: Path) -> None:
    folder = home / "models"
    main = write_tiny_checkpoint(folder / "main.safetensors")
    write_tiny_checkpoint(folder / "weak.safetensors", seed=1)
    write_tiny_checkpoint(folder / "classes.safetensors", conditioning=Conditioning.CLASS)
    library = Library((folder,))
    found = library.find(str(main))
    weak = find_weak_model(AUTO, library, found)
    assert weak is not None and weak.name == "weak"
    assert find_weak_model(GenerateRequest(), library, found) is None and find_weak_model(AUTO, None, found) is None
    with pytest.raises(CheckpointMissing):
        find_weak_model(replace(AUTO, autoguidance="gone"), library, found)
    with pytest.raises(BadRequest, match="classes cannot be used to guide main: its conditioning is class, not text"):
        find_weak_model(replace(AUTO, autoguidance="classes"), library, found)


def test_the_earlier_checkpoints_of_its_run_are_offered(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("00000100", "00000250", "00000800", "00000900", "latest", "notes"):
        (folder / f"{name}.safetensors").touch()
    latest = checkpoint(path=folder / "latest.safetensors", metadata={"diffstudio.run": json.dumps({"steps": 800})})
    earlier = earlier_checkpoints(latest)
    assert [one.step for one in earlier] == [100, 250]
    best = suggested(earlier, latest)
    assert best is not None and best.path == folder / "00000100.safetensors"
    assert [one.step for one in earlier_checkpoints(checkpoint(path=folder / "00000900.safetensors"))] == [
        100,
        250,
        800,
    ]
    assert earlier_checkpoints(checkpoint()) == [] and suggested([], checkpoint()) is None
    assert earlier_checkpoints(replace(latest, metadata={"diffstudio.run": "[]"})) == []
    assert earlier_checkpoints(replace(latest, metadata={"diffstudio.run": '{"steps": "many"}'})) == []
    elsewhere = replace(latest, path=tmp_path / "gone" / "checkpoints" / "latest.safetensors")
    assert earlier_checkpoints(elsewhere) == []
