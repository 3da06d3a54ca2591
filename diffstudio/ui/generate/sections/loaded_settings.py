"""What the panel took of a request that was loaded into it, and what not. Every field of a request is in here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.studio.metadata.named_files import NamedFile
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.field_names import FIELD_NAMES, names_of
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.helpers import label

ALWAYS = names_of("seed", "steps", "guidance", "sampler", "spacing", "count")  # fields that every request sets
OF_EVERY_IMAGE = names_of("prompt", "negative", "checkpoint")  # unless it is empty
OF_SOME_IMAGES = {  # what is off where an image does not mention it
    "init": "init image",
    "mask": "mask",
    "enlarge": terms.HIRES_FIX.lower(),
    "controls": "ControlNets",
} | names_of("vae", "clip_skip", "guidance_interval", "autoguidance", "cads", "truncation")
OF_INIT_IMAGE = names_of("strength", "resize")
OF_MASK = names_of("fill", "feather", "masked_only", "padding")
OF_HIRES_FIX = names_of("enlarge", "enlarge_strength", "enlarge_steps", "enlarge_guidance", "tiled")
OF_GUIDANCE = names_of("guidance_interval", "autoguidance_scale", "cads", "cads_tau1", "cads_tau2", "cads_mixing")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the panel shows after a request was loaded into it."""

    request: GenerateRequest
    size: tuple[int, int]  # px, of the image to generate
    clip_skip: int | None = None  # None where there is no choice
    leaves_last_step_unguided: bool = False  # what the checkpoint does unless told otherwise
    unknown_loras: Sequence[str] = ()  # of the prompt


@dataclass(frozen=True, slots=True)
class Loaded:
    """The names of the settings that were taken as they are, and those that were not: `steps 150 → 100`."""

    taken: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # shown as another value: no control of the panel holds theirs
    missing: tuple[str, ...] = ()  # not taken at all
    kept: tuple[str, ...] = ()  # what the image does not hold: it stayed as it was

    def warning(self) -> str:
        """About the values that no control of the panel holds; empty when there are none."""
        if not self.changed:
            return ""
        return f"Some settings were changed to what the panel offers: {'; '.join(self.changed)}."

    def taken_text(self) -> str:
        parts = (("Loaded", self.taken), ("Not in the image, and left as set here", self.kept))
        return " ".join(f"{what}: {', '.join(names)}." for what, names in parts if names)

    def not_taken_text(self) -> str:
        parts = (("Changed", self.changed), ("Not loaded", self.missing))
        return " ".join(f"{what}: {', '.join(names)}." for what, names in parts if names)


class LoadedLine(QWidget):
    """What was taken of a request and what not, below the checkpoint; hidden while there is nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.not_taken = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.taken)
        column.addWidget(self.not_taken)
        self.show_loaded(Loaded())

    def show_loaded(self, loaded: Loaded) -> None:
        for part, text in ((self.taken, loaded.taken_text()), (self.not_taken, loaded.not_taken_text())):
            part.setText(text)
            part.setVisible(bool(text))
        self.setVisible(bool(loaded.taken or loaded.not_taken_text()))


def compare(
    asked: GenerateRequest, shown: Shown, not_held: Collection[str] = (), *, checkpoint_found: bool = True
) -> Loaded:
    """What of `asked` the panel shows as it is, as another value, or not at all; nothing of the fields in `not_held`."""
    report = _Report(asked, shown.request, not_held)
    for name, there, here in (
        ("prompt", asked.prompt.strip(), shown.request.prompt),
        ("negative prompt", asked.negative.strip(), shown.request.negative),
    ):
        if there:
            report.add(name, there == here)
    if "checkpoint" not in not_held:
        report.add(terms.CHECKPOINT.lower(), checkpoint_found)
    report.compare(ALWAYS)
    _compare_options(report, shown)
    _compare_guidance(report)
    _compare_images(report)
    _compare_hires_fix(report)
    if "width" in not_held:
        pass
    elif shown.size == (asked.width or shown.size[0], asked.height or shown.size[1]):
        report.taken.append("size")
    else:
        there = " × ".join(
            str(side or usual) for side, usual in zip((asked.width, asked.height), shown.size, strict=True)
        )
        report.changed.append(f"size {there} → {shown.size[0]} × {shown.size[1]} px")
    _compare_controlnets(report)
    report.missing += [f"LoRA “{name}”" for name in shown.unknown_loras]
    kept = [name for field, name in (OF_EVERY_IMAGE | ALWAYS | {"width": "size"}).items() if field in not_held]
    off = GenerateRequest()
    kept += [
        name
        for field, name in OF_SOME_IMAGES.items()
        if field in not_held and getattr(shown.request, field) != getattr(off, field)
    ]
    return Loaded(tuple(report.taken), tuple(report.changed), tuple(report.missing), tuple(kept))


class _Report:
    """The three lists, as they fill."""

    def __init__(self, asked: GenerateRequest, shown: GenerateRequest, not_held: Collection[str]) -> None:
        self.asked, self.shown, self._not_held = asked, shown, not_held
        self._before, self._after = asked.to_json(), shown.to_json()
        self.taken, self.changed, self.missing = list[str](), list[str](), list[str]()

    def add(self, name: str, is_taken: bool) -> None:
        (self.taken if is_taken else self.missing).append(name)

    def compare(self, names: dict[str, str]) -> None:
        for field, name in names.items():
            if field in self._not_held:
                continue
            before, after = self._before[field], self._after[field]
            if before == after:
                self.taken.append(name)
            else:
                self.changed.append(f"{name} {labels.value_text(before)} → {labels.value_text(after)}")


def _compare_options(report: _Report, shown: Shown) -> None:
    """VAE, clip skip and the guidance of the last step, which a request may leave to the checkpoint."""
    asked = report.asked
    if asked.vae:
        report.add(f"VAE “{asked.vae}”", bool(shown.request.vae))
    if asked.clip_skip is not None and asked.clip_skip == shown.clip_skip:
        report.taken.append("clip skip")
    elif asked.clip_skip is not None:
        report.changed.append(f"clip skip {asked.clip_skip} → {shown.clip_skip or 'none'}")
    if asked.curve is not None:
        report.add(f"noise schedule “{asked.curve.name}”", asked.curve == shown.request.curve)
    if asked.times:
        report.add(FIELD_NAMES["times"], asked.times == shown.request.times)
    if asked.truncation != 1 or shown.request.truncation != 1:
        report.compare(names_of("truncation"))
    here = shown.request.guide_last_call
    guided = here if here is not None else not shown.leaves_last_step_unguided
    if asked.guide_last_call is not None and asked.guide_last_call != guided:
        report.changed.append(
            f"guidance of the last step {labels.value_text(asked.guide_last_call)} → {labels.value_text(guided)}"
        )


def _compare_guidance(report: _Report) -> None:
    """Report guidance settings that are on in the request or in the panel."""
    usual, asked, shown = (one.to_json() for one in (GenerateRequest(), report.asked, report.shown))
    report.compare(
        {
            field: name
            for field, name in OF_GUIDANCE.items()
            if usual[field] != asked[field] or usual[field] != shown[field]
        }
    )
    if report.asked.autoguidance:
        report.add(f"autoguidance with “{Path(report.asked.autoguidance).stem}”", bool(report.shown.autoguidance))


def _compare_images(report: _Report) -> None:
    """Init image, mask and outpainting."""
    asked, shown = report.asked, report.shown
    if asked.init is not None:
        report.add(f"init image {_file_name(asked.init)}", shown.init is not None)
    if asked.mask is not None:
        report.add("mask", shown.mask is not None)
    if any(asked.outpaint):
        report.add("outpainting", asked.outpaint == shown.outpaint)
    if asked.init is not None and shown.init is not None:
        report.compare(OF_INIT_IMAGE)
        if shown.mask is not None or any(shown.outpaint):
            report.compare(OF_MASK)
    elif asked.controls and shown.controls:
        report.compare(names_of("resize"))


def _compare_controlnets(report: _Report) -> None:
    asked, shown = report.asked, report.shown
    left = list(shown.controls)
    for use in asked.controls:
        name = f"ControlNet {Path(use.network).stem} with {_file_name(use.image)}"
        same = next((now for now in left if now.image == use.image), None)
        if same is None:
            report.missing.append(name)
            continue
        left.remove(same)
        if replace(use, network=same.network) == same:
            report.taken.append(name)
        else:
            report.changed.append(f"settings of the ControlNet {Path(use.network).stem}")


def _compare_hires_fix(report: _Report) -> None:
    asked, shown = report.asked, report.shown
    if asked.enlarge > 1 and shown.enlarge > 1:
        report.compare(OF_HIRES_FIX)
        report.add(f"upscaler {asked.upscaler}", asked.upscaler == shown.upscaler)
    elif asked.enlarge > 1:
        report.changed.append(f"{terms.HIRES_FIX.lower()} {asked.enlarge:g}× → off")


def _file_name(path: Path) -> str:
    named = NamedFile.of(path)
    return named.name if named is not None else path.name
