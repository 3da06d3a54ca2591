"""What is known about a picture, as a person reads it, and the buttons that do something with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.gallery.gallery import GalleryImage
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.import_settings import SAMPLER_LABELS
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import SpacingName, UpscaleRequest
from diffstudio.ui.gallery.item_model import when
from diffstudio.ui.generate.labels import upscaler
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions, terms, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.flow_layout import FlowLayout
from diffstudio.ui.widgets.helpers import label, scroll_area
from diffstudio.ui.widgets.wrapping_text import FactsTable, WrappingText

WIDTH = 304
_SPACINGS = {SpacingName.LOG_SNR: "Log SNR", SpacingName.ALIGN_YOUR_STEPS: "Align your steps"}


class Details(QFrame):
    """The panel beside the pictures."""

    use_settings_requested = Signal()
    copy_requested = Signal()
    save_requested = Signal()
    folder_requested = Signal()
    delete_requested = Signal()
    star_requested = Signal()
    upscale_requested = Signal()

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._reading: asyncio.Task[None] | None = None
        self.setObjectName("panel")
        self.setProperty("side", "right")
        self.setFixedWidth(WIDTH)
        self._image: GalleryImage | None = None
        self._settings: ImageSettings | None = None
        self.prompt, self.negative = WrappingText(pixels=theme.FONT_PIXELS), WrappingText(tone="dim")
        self.prompt.setAccessibleName("Prompt")
        self.negative.setAccessibleName(terms.NEGATIVE_PROMPT)
        self._prompt_title, self._negative_title = SectionLabel("Prompt"), SectionLabel(terms.NEGATIVE_PROMPT)
        self.facts = FactsTable()
        self.lost = WrappingText(tone="warn")
        self.nothing = label("", "dim", wrap=True)
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(8)
        for part in (
            self._prompt_title,
            self.prompt,
            self._negative_title,
            self.negative,
            SectionLabel("Settings"),
            self.nothing,
            self.facts,
            self.lost,
        ):
            if isinstance(part, SectionLabel) and part is not self._prompt_title:
                column.addSpacing(8)
            column.addWidget(part)
        column.addStretch(1)
        self._scroll = scroll_area(contents)

        self.reuse = PrimaryButton(actions.USE_SETTINGS, tooltip=f"{actions.USE_SETTINGS_TIP} (Ctrl+U)")
        self.enlarge = SecondaryButton(actions.UPSCALE, "arrows-out", actions.UPSCALE_TIP, name="Upscale")
        self.star = SecondaryButton("Star", "star", "Star this image (Ctrl+D)")
        self.copy = SecondaryButton("Copy", "copy", actions.COPY_IMAGE_TIP)
        self.save = SecondaryButton(actions.SAVE_AS, "floppy-disk", actions.SAVE_AS_TIP)
        self.folder = SecondaryButton(actions.SHOW_IN_FOLDER, "folder-open", actions.SHOW_IN_FOLDER_TIP)
        self.delete = SecondaryButton("Delete", "trash", "Move to the gallery's trash (Delete). This can be undone")
        self._buttons = QWidget()
        below = QVBoxLayout(self._buttons)
        below.setContentsMargins(16, 8, 16, 16)
        below.setSpacing(8)
        below.addWidget(self.reuse)
        flow = FlowLayout(spacing=8)
        for button, wanted in (
            (self.star, self.star_requested),
            (self.enlarge, self.upscale_requested),
            (self.copy, self.copy_requested),
            (self.delete, self.delete_requested),
            (self.save, self.save_requested),
            (self.folder, self.folder_requested),
        ):
            flow.addWidget(button)
            button.clicked.connect(wanted)
        below.addLayout(flow)
        self.reuse.clicked.connect(self.use_settings_requested)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self._scroll, 1)
        whole.addWidget(self._buttons)
        self.show_image(None)

    def show_image(self, image: GalleryImage | None, chosen: int = 0) -> None:
        """The settings of a picture; of none, or of several chosen ones, only what can be done with them."""
        before = self._image
        known = self._settings if image and before and image.path == before.path else None
        self._image, self._settings = image, None
        request = image.request if image else None
        self._prompt_title.setVisible(request is not None)
        self.prompt.setVisible(request is not None)
        self._negative_title.setVisible(bool(request and request.negative))
        self.negative.setVisible(bool(request and request.negative))
        self.prompt.set_text((request.prompt or "No prompt") if request else "")
        self.negative.set_text(request.negative if request else "")
        self.lost.hide()
        if image is None:
            self.nothing.setText(
                "Select an image to see its settings." if chosen == 0 else f"{chosen:,} images selected."
            )
        elif request is None:
            self.nothing.setText("This image has no settings.")
        self.nothing.setVisible(image is None or request is None)
        self.facts.show_facts(_facts(image) if image else [])
        self.reuse.setVisible(request is not None)
        for button in (self.enlarge, self.save, self.folder):
            button.setVisible(image is not None)
        self._buttons.setVisible(image is not None or chosen > 0)
        self.delete.setText("Delete" if chosen < 2 else f"Delete {chosen:,}")
        starred = image is not None and image.starred
        self.star.setText("Starred" if starred else "Star")
        self.star.set_icon(*(("star-fill", "warn") if starred else ("star", "text")))
        if known is not None:
            self.show_file(known)
        else:
            self._scroll.verticalScrollBar().setValue(0)
        if image is not None and image != before:
            if self._reading is not None:
                self._reading.cancel()
            self._reading = self._tasks.start(self._read(image))

    async def _read(self, image: GalleryImage) -> None:
        try:
            settings = await self._tasks.to_thread(metadata.read, image.path)
        except (DiffstudioError, OSError):
            return  # the records have what there is to say
        if self._image is not None and self._image.path == image.path:
            self.show_file(settings)

    def show_file(self, settings: ImageSettings) -> None:
        """What only the file itself tells: which program made it, on what, and what could not be taken over."""
        image = self._image
        if image is None:
            return
        self._settings = settings
        about = settings.environment
        made_on = " · ".join(str(about[name]) for name in ("device", "dtype") if about.get(name))
        version = f" {about['version']}" if about.get("version") else ""
        self.facts.show_facts([*_facts(image), ("Computed on", made_on), ("Program", f"{settings.source}{version}")])
        if settings.not_imported:
            self.lost.set_text("Not read: " + "; ".join(settings.not_imported) + ".")
            self.lost.show()


def _sides(outpaint: tuple[int, int, int, int]) -> str:
    """`32 px right, 16 px below`"""
    names = ("left", "above", "right", "below")
    return ", ".join(f"{pixels:,} px {name}" for pixels, name in zip(outpaint, names, strict=True) if pixels)


def _facts(image: GalleryImage) -> list[tuple[str, str]]:
    facts = [("Size", f"{image.width} × {image.height} px")]
    request = image.request
    if isinstance(request, UpscaleRequest):
        facts += [("Upscaled", f"{request.scale:g}× by {upscaler(request.upscaler)}"), ("Source", request.source.name)]
        if request.checkpoint:
            facts += [
                (terms.CHECKPOINT, image.checkpoint),
                (terms.DENOISING_STRENGTH, f"{request.strength:g}"),
                (terms.STEPS, str(request.steps)),
                (terms.CFG_SCALE, f"{request.guidance:g}"),
                (terms.SAMPLER, SAMPLER_LABELS[request.sampler]),
                (terms.SEED, str(request.seed)),
            ]
    elif request is not None:
        spacing = _SPACINGS.get(request.spacing) or request.spacing.capitalize()
        facts += [
            (terms.CHECKPOINT, image.checkpoint),
            (terms.STEPS, str(request.steps)),
            (terms.CFG_SCALE, f"{request.guidance:g}"),
            (terms.SAMPLER, SAMPLER_LABELS[request.sampler]),
            (terms.SCHEDULER, spacing),
            (terms.SEED, str(request.seed)),
        ]
        if request.init is not None:
            facts += [(terms.INIT_IMAGE, request.init.name), (terms.DENOISING_STRENGTH, f"{request.strength:g}")]
        if request.mask is not None:
            facts.append((terms.MASK, request.mask.name))
        if any(request.outpaint):
            facts.append((terms.OUTPAINT, _sides(request.outpaint)))
        facts += [
            (terms.CONTROLNET, f"{use.image.name}, {Path(use.network).stem} at {use.scale:g}")
            for use in request.controls
        ]
        if request.vae:
            facts.append((terms.VAE, Path(request.vae).stem))
        if request.enlarge > 1:
            facts.append(
                (
                    terms.HIRES_FIX,
                    f"{request.enlarge:g}× by {upscaler(request.upscaler)}, denoising strength {request.enlarge_strength:g}",
                )
            )
    return [*facts, ("Created", when(image.created)), ("File", image.path.name)]
