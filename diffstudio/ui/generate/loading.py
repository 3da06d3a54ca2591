"""Load the settings of an earlier request into the panel, and say what of them is shown and what is not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from diffstudio.errors import NOT_FOUND_AGAIN, BadRequest, missing_sources
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.metadata.named_files import needed_files
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.panel_layout import MAX_IMAGES
from diffstudio.ui.generate.sections.loaded_settings import Loaded, Shown, compare


def load_request(panel: Panel, request: GenerateRequest, not_held: Collection[str] = ()) -> bool:
    """Show a request in the panel. False when its checkpoint is missing; everything else is shown.

    Fields in `not_held` stay as they are in the panel. Where they are some of the sampling settings and the request has
    another checkpoint, they follow it as when it is chosen: what was not set by hand becomes what it recommends.
    """
    found = "checkpoint" in not_held or panel.checkpoint.choose(request.checkpoint)
    keeps = any(name in not_held for name in panel.sampling.FIELDS)
    panel.show_checkpoint(panel.checkpoint.current(), load_recommended=keeps)
    if "prompt" not in not_held:
        panel.prompt.set_text(request.prompt)
        panel.classes.set_value(request.prompt)
    if "negative" not in not_held:
        panel.negative.set_text(request.negative)
    if "init" not in not_held:
        panel.init_image.load_from(request)
    if "width" not in not_held:
        panel.size_control.set_size(request.width, request.height)  # after the init image, which it may follow
    panel.show_fit()
    panel.sampling.load_held(request, not_held)
    for field, section in (
        ("guidance_interval", panel.guidance),
        ("controls", panel.controlnets),
        ("enlarge", panel.hires_fix),
    ):
        if field not in not_held:
            section.load_from(request)
    if "seed" not in not_held:
        panel.seed.set_fixed(request.seed)
    if "count" not in not_held:
        panel.count.set_value(min(request.count, MAX_IMAGES))
    panel.check()
    return found


def compare_panel(
    panel: Panel, request: GenerateRequest, not_held: Collection[str] = (), *, checkpoint_found: bool = True
) -> Loaded:
    """What of a request that was loaded is shown as it is, as another value (no control holds its), or not at all."""
    try:
        shown = panel.request()
    except BadRequest:  # an impossible request, which is shown by the button
        return Loaded()
    unknown = [row.name for row in panel.loras.rows if row.lora is None]
    sampling = panel.sampling
    return compare(
        request,
        Shown(shown, panel.size_to_make(), sampling.shown_clip_skip(), sampling.leaves_last_step_unguided(), unknown),
        not_held,
        checkpoint_found=checkpoint_found,
    )


class SettingsLoader:
    """Loads requests into the panel, and shows what of them is missing in the room's banner."""

    def __init__(
        self, panel: Panel, warn: Callable[[str], None], open_upscale: Callable[[UpscaleRequest], None]
    ) -> None:
        self._panel, self._warn, self._open_upscale = panel, warn, open_upscale
        self._waiting: tuple[PictureRequest, Gaps] | None = None  # for the first scan of the model folders
        self._warnings: list[str] = []  # about models and files that the loaded request names

    def load(self, request: PictureRequest, gaps: Gaps = NO_GAPS) -> None:
        """Show a request in the panel, but for what an image leaves open; an UpscaleRequest opens the Upscale dialog.

        Before the first scan of the model folders, the newest request waits for its end.
        """
        asked = request, gaps
        if self._panel.when_scanned(partial(self._load_waiting, asked)) or isinstance(request, UpscaleRequest):
            self._load(request, gaps)
        else:
            self._waiting = asked
            self._warn("These settings are loaded as soon as your models are found.")

    def _load_waiting(self, asked: tuple[PictureRequest, Gaps]) -> None:
        if asked is self._waiting:
            self._waiting = None
            self._warn("")
            self._load(*asked)

    def _load(self, request: PictureRequest, gaps: Gaps) -> None:
        needed = needed_files(request)
        warning = f"{missing_sources(needed)}: {NOT_FOUND_AGAIN}. Choose {'it' if len(needed) == 1 else 'them'} again."
        if isinstance(request, UpscaleRequest):
            if needed:
                self._warn(warning)
            else:
                self._open_upscale(request)
            return
        self._warnings = [warning] if needed else []
        found = load_request(self._panel, request, gaps.fields)
        loaded = compare_panel(self._panel, request, gaps.fields, checkpoint_found=found)
        self._panel.show_loaded(loaded)
        if loaded.changed:
            self._warnings.append(loaded.warning())
        if not found:
            missing = self.missing_checkpoint(request)
            whole = not self._warnings and not gaps and len(loaded.missing) == 1  # the checkpoint itself
            self._warnings.insert(0, f"{missing} All other settings were loaded." if whole else missing)
        if self._warnings:
            self._warn(" ".join(self._warnings))
        self._panel.prompt.setFocus()

    def missing_checkpoint(self, request: GenerateRequest) -> str:
        checkpoint = self._panel.checkpoint.current()
        title = checkpoint.title if checkpoint else "none"
        return f"The checkpoint “{request.checkpoint}” is missing; “{title}” stays selected."

    def clear_warnings(self) -> None:
        """Other settings are loaded: what was missing of the last ones is no longer said with them."""
        self._warnings.clear()

    def add_warning(self, message: str) -> None:
        """Show a warning about the request that is being loaded, which can have several."""
        self._warnings.append(message)
        self._warn(message)
