"""What was taken of a request and what not: no field of a request is left out."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, SamplerName, SpacingName
from diffstudio.studio.requests.choices import FillName, ResizeName
from diffstudio.ui.generate.sections.loaded_settings import Loaded, Shown, compare

USE = ControlNetUse("canny", Path("a.png"), scale=3.0)
ANOTHER = {
    "prompt": "other",
    "negative": "other",
    "seed": 1,
    "steps": 99,
    "sampler": SamplerName.LCM,
    "spacing": SpacingName.KARRAS,
    "guidance": 9.5,
    "guide_last_call": False,
    "guidance_interval": (0.1, 0.8),
    "autoguidance": "weak",
    "autoguidance_scale": 1.5,
    "cads": 0.2,
    "cads_tau1": 0.4,
    "cads_tau2": 0.8,
    "cads_mixing": 0.5,
    "width": 128,
    "height": 256,
    "count": 3,
    "init": Path("b.png"),
    "strength": 0.25,
    "mask": Path("mask.png"),
    "resize": ResizeName.PAD,
    "fill": FillName.NOISE,
    "feather": 5,
    "masked_only": True,
    "padding": 9,
    "outpaint": (8, 0, 0, 0),
    "enlarge": 2.0,
    "upscaler": "4x",
    "enlarge_strength": 0.7,
    "enlarge_steps": 3,
    "enlarge_guidance": 2.5,
    "tiled": True,
    "controls": (USE,),
    "vae": "soft",
    "clip_skip": 2,
    "truncation": 0.5,
    "times": (1.0, 0.4),
    "curve": NamedCurve("other", NoiseCurve(((0.0, 5.0), (1.0, -5.0)))),
}


def test_no_setting_is_lost_unnoticed() -> None:
    """Each field of a request that is not shown, or as another value, is named as such; shown, it is not."""
    assert ANOTHER.keys() == {field.name for field in fields(GenerateRequest)} - {"checkpoint"}
    image = GenerateRequest("a", "b", init=Path("a.png"), masked_only=False)
    masked = replace(image, mask=Path("m.png"))
    hires = replace(image, enlarge=3.0)
    of_mask = ("mask", "fill", "feather", "masked_only", "padding", "outpaint")
    of_hires = ("upscaler", "enlarge_strength", "enlarge_steps", "enlarge_guidance", "tiled")
    for name, value in ANOTHER.items():
        shown = masked if name in of_mask else hires if name in of_hires else image
        if name == "mask":
            shown = image
        if name == "times":
            shown = replace(image, steps=2, spacing=SpacingName.FITTED)
        if name == "curve":
            mine = NamedCurve("mine", NoiseCurve(((0.0, 9.0), (1.0, -9.0))))
            shown = replace(image, spacing=SpacingName.CUSTOM, curve=mine)
        asked = replace(shown, **{name: value})
        size = (64, 64)
        lost = compare(asked, Shown(replace(shown, init=None, mask=None) if name == "init" else shown, size))
        assert len(lost.changed + lost.missing) == 1, name
        kept = compare(asked, Shown(asked, (asked.width or 64, asked.height or 64), asked.clip_skip))
        assert kept.changed + kept.missing == (), name


def test_what_stays_on_although_the_image_does_not_mention_it_is_named() -> None:
    panel = GenerateRequest("a", init=Path("a.png"), enlarge=2.0, cads=0.3)
    not_held = {field.name for field in fields(GenerateRequest)} - {"prompt"}
    kept = compare(GenerateRequest("a"), Shown(panel, (64, 64)), not_held).kept
    assert kept[-3:] == ("init image", "hires fix", "CADS noise")
    assert "hires fix" not in compare(GenerateRequest("a"), Shown(GenerateRequest("a"), (64, 64)), not_held).kept


def test_values_are_shown_as_the_panel_calls_them() -> None:
    asked = GenerateRequest("a", enlarge=2.0, enlarge_guidance=7.25, tiled=True)
    shown = replace(asked, enlarge_guidance=None, tiled=False)
    changed = compare(asked, Shown(shown, (64, 64))).changed
    assert changed == ("hires CFG scale 7.25 → default", "tiled on → off")
    asked = GenerateRequest("a", controls=(USE,))
    shown = GenerateRequest("a", controls=(replace(USE, scale=2.0, network="/models/canny.safetensors"),))
    assert compare(asked, Shown(shown, (64, 64))).changed == ("settings of the ControlNet canny",)
    assert compare(asked, Shown(GenerateRequest("a"), (64, 64))).missing == ("ControlNet canny with a.png",)
    same = compare(asked, Shown(replace(shown, controls=(replace(USE, network="canny-2"),)), (64, 64)))
    assert "ControlNet canny with a.png" in same.taken


def test_what_the_checkpoint_does_by_itself_is_no_change() -> None:
    """Images of version 0.1 guided the last step, as every family but the one trained here still does."""
    asked = GenerateRequest("a", guide_last_call=True)
    shown = GenerateRequest("a")
    assert compare(asked, Shown(shown, (64, 64))).changed == ()
    unguided = Shown(shown, (64, 64), leaves_last_step_unguided=True)
    assert compare(asked, unguided).changed == ("guidance of the last step on → off",)
    assert compare(replace(asked, guide_last_call=False), unguided).changed == ()


def test_it_is_said_in_sentences() -> None:
    loaded = compare(
        GenerateRequest("a", steps=150, vae="soft", clip_skip=2),
        Shown(GenerateRequest("a", steps=100), (64, 64), unknown_loras=["glow"]),
        checkpoint_found=False,
    )
    assert loaded.taken_text() == "Loaded: prompt, seed, CFG scale, sampler, scheduler, images, size."
    assert loaded.not_taken_text() == (
        "Changed: steps 150 → 100, clip skip 2 → none. Not loaded: checkpoint, VAE “soft”, LoRA “glow”."
    )
    assert loaded.warning().endswith("steps 150 → 100; clip skip 2 → none.")
    assert Loaded().taken_text() == Loaded().not_taken_text() == Loaded().warning() == ""
