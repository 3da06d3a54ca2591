"""The sampling section: steps, CFG scale, sampler, scheduler, clip skip and VAE."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QGridLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.search import compatible_vaes
from diffstudio.models.detection.families_table import PIXEL, family_of
from diffstudio.models.recommended import recommended_for
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.fitted_spacing import fitted_text
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName
from diffstudio.studio.requests.limits import MOST_CLIP_SKIP, MOST_TRUNCATION
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.carried_times import CarriedTimes
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.helpers import label, plain_tooltip
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

MAX_STEPS = 100
MAX_CFG_SCALE = 15
_OWN_VAE = ("", "From checkpoint")
SET_BY_HAND = "Set by hand: kept when you choose another checkpoint"


class SamplingSection(QWidget):
    """Loads the recommended settings of each checkpoint, replacing those that were not set by hand."""

    FIELDS = ("steps", "guidance", "sampler", "spacing", "vae", "clip_skip", "guide_last_call", "truncation")

    failed = Signal(str)  # a warning for the room

    def __init__(self) -> None:
        super().__init__()
        self._models: tuple[Checkpoint, ...] = ()
        self._vae_elsewhere: Path | None = None  # a file outside the model folders that a request named
        self._checkpoint: Checkpoint | None = None
        self._loaded_for: tuple[Path, str, str] | None = None  # file, family, edition whose settings were considered
        self._kept_clip_skip: int | None = None  # chosen for an earlier checkpoint; this one has no CLIP skip
        self._carried = CarriedTimes()
        self._loaded_curve: NamedCurve | None = None  # of the request that was loaded last
        self._recommended = PIXEL  # the recommended settings of the checkpoint, or of the last one that had some
        self._make_controls()
        self._controls: dict[str, LabelledSlider | LabelledComboBox] = {
            "steps": self.steps,
            "guidance": self.cfg_scale,
            "sampler": self.sampler,
            "spacing": self.scheduler,
        }
        self._loaded = {name: control.value() for name, control in self._controls.items()}  # and not set by hand
        for control in self._controls.values():
            control.value_changed.connect(self._update_marks)
            control.value_changed.connect(self._update_fitted)
        self._lay_out()

    def _make_controls(self) -> None:
        self.steps = LabelledSlider(
            terms.STEPS, 1, MAX_STEPS, PIXEL.steps, tooltip="Denoising steps: more are slower and can add detail"
        )
        self.cfg_scale = LabelledSlider(
            terms.CFG_SCALE,
            0,
            MAX_CFG_SCALE,
            PIXEL.guidance,
            step=0.1,
            decimals=1,
            tooltip="Guidance: how closely the prompt is followed. 1 turns guidance off; "
            "with checkpoints trained here, 0 ignores the prompt",
        )
        self.guide_last_step = CheckBox(
            terms.GUIDE_LAST_STEP,
            "Apply CFG in the last step too, which adds grain. Tick this to reproduce images from before version 0.2",
        )
        self.sampler = LabelledComboBox(
            terms.SAMPLER,
            [(name, text) for name, (text, _) in labels.SAMPLERS.items()],
            "The sampling method that removes the noise",
        )
        self.scheduler = LabelledComboBox(
            terms.SCHEDULER, labels.schedulers_for(None), "Spacing of the noise levels over the steps"
        )
        self.scheduler.combo.set_short_texts(labels.SHORT_SCHEDULERS)
        self.vae = LabelledComboBox(
            terms.VAE,
            [_OWN_VAE],
            "The autoencoder that decodes latents into the image: the checkpoint's own, or another that fits it",
        )
        self.clip_skip = LabelledSlider(
            terms.CLIP_SKIP,
            1,
            MOST_CLIP_SKIP,
            1,
            tooltip="The layer of the CLIP text encoder that reads the prompt: 1 is the last, 2 the one before. Many "
            "anime checkpoints were trained on 2",
        )
        self.truncation = LabelledSlider(
            terms.TRUNCATION,
            0,
            MOST_TRUNCATION,
            1,
            step=0.05,
            decimals=2,
            tooltip="Truncation psi of a GAN, temperature of a VAE. Below 1, images are more typical and less varied",
        )
        self.fitted = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.sampler.set_value(SamplerName(PIXEL.sampler))
        self.scheduler.set_value(SpacingName(PIXEL.spacing))
        for index, (_, tip) in enumerate(labels.SAMPLERS.values()):
            self.sampler.combo.setItemData(index, plain_tooltip(tip), Qt.ItemDataRole.ToolTipRole)

    def _lay_out(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(14)
        grid.setVerticalSpacing(12)
        for index, control in enumerate((self.steps, self.cfg_scale, self.sampler, self.scheduler)):
            grid.addWidget(control, index // 2, index % 2)
            grid.setColumnStretch(index % 2, 1)
        wide = (self.fitted, self.guide_last_step, self.clip_skip, self.vae, self.truncation)
        for row, widget in enumerate(wide, start=2):
            grid.addWidget(widget, row, 0, 1, 2)
        self.fitted.hide()
        self.truncation.hide()
        self.guide_last_step.hide()
        self.clip_skip.hide()
        self.vae.hide()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._makes_one_call():
            self._offer_schedulers()  # a noise schedule may have been saved in the Lab

    # Request

    def apply_to(self, request: GenerateRequest) -> GenerateRequest:
        """The request with these settings; for a VAE or GAN the truncation, and recommended values for the rest."""
        if self._makes_one_call():
            usual = self._recommended
            return replace(
                request,
                steps=usual.steps,
                sampler=SamplerName(usual.sampler),
                spacing=SpacingName(usual.spacing),
                guidance=usual.guidance,
                truncation=float(self.truncation.value()),
                vae="",
                clip_skip=None,
                guide_last_call=None,
            )
        return replace(self.with_values(request), truncation=1.0, clip_skip=self._clip_skip())

    def with_values(self, request: GenerateRequest) -> GenerateRequest:
        """The request with all of these settings, including those that a VAE or GAN does not have."""
        scheduler = self.scheduler.value()
        chosen = replace(
            request,
            truncation=float(self.truncation.value()) if self._makes_one_call() else 1.0,
            times=(),
            steps=int(self.steps.value()),
            sampler=self.sampler.value(),
            spacing=SpacingName.CUSTOM if isinstance(scheduler, NamedCurve) else scheduler,
            curve=scheduler if isinstance(scheduler, NamedCurve) else None,
            guidance=float(self.cfg_scale.value()),
            vae=self.vae.value() or "",
            clip_skip=self._clip_skip() if self._usual_clip_skip() else self._kept_clip_skip,
            guide_last_call=True if self.guide_last_step.isChecked() and self.leaves_last_step_unguided() else None,
        )
        return self._carried.given_to(chosen, self._checkpoint)

    def as_kept(self, request: GenerateRequest) -> GenerateRequest:
        """As `with_values`, but of the times of the steps only those of a loaded image."""
        return self._carried.without_fitted(self.with_values(request))

    def without_hidden(self, request: GenerateRequest) -> GenerateRequest:
        """The request without the settings that the checkpoint does not have."""
        return self.apply_to(request) if self._makes_one_call() else request

    def load_from(self, request: GenerateRequest) -> None:
        """Load the settings of a request; `failed` names a VAE that is missing."""
        self._kept_clip_skip = None if self._usual_clip_skip() else request.clip_skip
        self.steps.set_value(request.steps)
        self.cfg_scale.set_value(request.guidance)
        self.guide_last_step.setChecked(request.guide_last_call is True and self.leaves_last_step_unguided())
        self.sampler.set_value(request.sampler)
        self._carried.load(request)
        self._loaded_curve = request.curve
        self._offer_schedulers()
        self.scheduler.set_value(request.curve or request.spacing)
        self.truncation.set_value(request.truncation)
        self.clip_skip.set_value(request.clip_skip or self._usual_clip_skip() or 1)
        if self._makes_one_call():
            self.vae.set_choices([_OWN_VAE, *([(request.vae, request.vae)] if request.vae else [])])
        if not self.vae.set_value(self._name_of_vae(request.vae)):
            self.vae.set_value("")
            self.failed.emit(f"The VAE “{request.vae}” is missing; the checkpoint's own is used instead.")
        self.mark_set_by_hand(())

    def load_held(self, request: GenerateRequest, not_held: Collection[str]) -> None:
        """Load the settings of a request, but for the fields in `not_held`, which stay as they are."""
        if not any(name in not_held for name in self.FIELDS):
            self.load_from(request)
            return
        by_hand = self.set_by_hand() & set(not_held)
        shown = self.as_kept(GenerateRequest())
        kept = {name: getattr(shown, name) for name in self.FIELDS if name in not_held}
        if "spacing" in kept:
            fits = {"steps", "sampler"} <= kept.keys()  # times are those of so many steps of one sampler
            kept |= {"curve": shown.curve, "times": shown.times if fits else ()}
        self.load_from(replace(request, **kept))
        self.mark_set_by_hand(by_hand)

    def _name_of_vae(self, vae: str) -> str:
        """The name of a VAE that a request names in any case, or by its path; a file elsewhere is offered too."""
        path = Path(vae)
        for model in self._models:
            if vae and (model.path == path or model.name.casefold() == vae.casefold()):
                return model.name
        if path.is_absolute() and path.exists():
            self._vae_elsewhere = path
            self._update_vaes()
        return vae

    # Values set by hand

    def set_by_hand(self) -> frozenset[str]:
        """The fields of a request whose values are not those that were loaded: kept for another checkpoint, and marked."""
        return frozenset(name for name, control in self._controls.items() if control.value() != self._loaded[name])

    def mark_set_by_hand(self, names: Collection[str]) -> None:
        """Take these values as set by hand, where they are not the recommended ones, and the others as loaded."""
        usual = self._recommended_values()
        for name, control in self._controls.items():
            self._loaded[name] = usual[name] if name in names else control.value()
        self._update_marks()
        self._update_fitted()

    def reset(self) -> None:
        """The recommended settings of the checkpoint, and none set by hand."""
        self.mark_set_by_hand(())
        self.guide_last_step.setChecked(False)
        self.truncation.set_value(1)
        self._kept_clip_skip = None
        self.clip_skip.set_value(self._usual_clip_skip() or 1)
        self.vae.set_value("")
        if self._checkpoint is not None:
            self._load_recommended(self._checkpoint)

    def _update_marks(self) -> None:
        by_hand = self.set_by_hand()
        for name, control in self._controls.items():
            control.set_mark(SET_BY_HAND if name in by_hand else "")

    def _update_fitted(self) -> None:
        """Say where the fitted steps come from, and what is used where there are none."""
        text = ""
        if self._checkpoint is not None and self.scheduler.value() is SpacingName.FITTED and not self._makes_one_call():
            text = fitted_text(self.with_values(GenerateRequest()), self._checkpoint)
        self.fitted.setText(text)
        self.fitted.setVisible(bool(text))

    def _offer_schedulers(self) -> None:
        """Offer what there is now. A noise schedule that was chosen stays so, with its new points if it was saved again."""
        chosen, loaded = self.scheduler.value(), self._loaded_curve
        drawn = [curve for curve in (loaded, chosen) if isinstance(curve, NamedCurve)]
        choices = labels.schedulers_for(self._checkpoint, carried=self._carried.are_loaded, drawn=drawn)
        self.scheduler.set_choices(choices)
        if isinstance(chosen, NamedCurve) and chosen != loaded:
            again = next((value for value, text in choices if text == chosen.name), chosen)
            self.scheduler.set_value(again)

    def _recommended_values(self) -> dict[str, Any]:
        usual = self._recommended
        guidance = usual.guidance if usual.guidance <= MAX_CFG_SCALE else PIXEL.guidance
        return {"steps": usual.steps, "guidance": guidance, "sampler": usual.sampler, "spacing": usual.spacing}

    # Models

    def set_models(self, models: Sequence[Checkpoint]) -> None:
        """Offer the VAEs among all models."""
        self._models = tuple(models)
        self._update_vaes()

    def set_checkpoint(self, checkpoint: Checkpoint | None, *, load_recommended: bool = True) -> None:
        this = (checkpoint.path, checkpoint.family, checkpoint.edition) if checkpoint is not None else self._loaded_for
        another = this != self._loaded_for
        self._set_clip_skip_for(checkpoint)
        self.guide_last_step.setVisible(self.leaves_last_step_unguided())
        for control in self._controls.values():
            control.setVisible(not self._makes_one_call())
        self.truncation.setVisible(self._makes_one_call())
        before = self.scheduler.value()
        if not self._makes_one_call():  # keep hidden settings for the next checkpoint
            if another:
                self._carried.forget()
            self._offer_schedulers()
        self._update_vaes()
        if checkpoint is None:
            return
        self.cfg_scale.setEnabled(checkpoint.conditioning is not Conditioning.NONE)
        self._loaded_for = this
        self._recommended = recommended_for(checkpoint, fitted=True) or self._recommended
        if self.scheduler.value() != before:  # it is not one of this checkpoint's
            self.scheduler.set_value(SpacingName(self._recommended.spacing))
        if another and load_recommended:
            self._load_recommended(checkpoint)
        self._update_fitted()

    def shown_clip_skip(self) -> int | None:
        """The layer that reads the prompt; None where there is no choice."""
        return int(self.clip_skip.value()) if self._usual_clip_skip() else None

    def leaves_last_step_unguided(self) -> bool:
        """Whether the checkpoint leaves its last step unguided by default: models trained here do."""
        checkpoint = self._checkpoint
        return (
            checkpoint is not None and checkpoint.family == "pixel" and checkpoint.conditioning is not Conditioning.NONE
        )

    def _makes_one_call(self) -> bool:
        """Whether the checkpoint is a VAE or GAN, which has no steps, sampler or guidance."""
        family = family_of(self._checkpoint.family) if self._checkpoint is not None else None
        return family is not None and family.one_call

    def _usual_clip_skip(self) -> int:
        """The layer that the checkpoint's family was trained on; 0 where there is no choice."""
        family = family_of(self._checkpoint.family) if self._checkpoint is not None else None
        return family.clip_skip if family is not None else 0

    def _clip_skip(self) -> int | None:
        usual, chosen = self._usual_clip_skip(), int(self.clip_skip.value())
        return chosen if usual and chosen != usual else None

    def _set_clip_skip_for(self, checkpoint: Checkpoint | None) -> None:
        """Keep a value that was chosen; otherwise show the one of the new checkpoint's family."""
        chosen = self._clip_skip() if self._usual_clip_skip() else self._kept_clip_skip
        self._checkpoint, self._kept_clip_skip = checkpoint, chosen
        usual = self._usual_clip_skip()
        self.clip_skip.set_range(usual or 1, MOST_CLIP_SKIP)
        self.clip_skip.set_value(max(chosen or usual, usual) or 1)
        self.clip_skip.setVisible(usual > 0)

    def _update_vaes(self) -> None:
        if self._makes_one_call():
            self.vae.hide()
            return
        fitting = compatible_vaes(self._checkpoint, self._models) if self._checkpoint is not None else []
        elsewhere = [] if self._vae_elsewhere is None else [(str(self._vae_elsewhere), self._vae_elsewhere.name)]
        self.vae.set_choices([_OWN_VAE, *((model.name, model.title) for model in fitting), *elsewhere])
        self.vae.setVisible(bool(fitting or elsewhere))

    def _load_recommended(self, checkpoint: Checkpoint) -> None:
        """Load the recommended settings in place of those that were not set by hand."""
        if recommended_for(checkpoint) is None:
            return
        by_hand, usual = self.set_by_hand(), self._recommended_values()
        for name, control in self._controls.items():
            if name not in by_hand:
                control.set_value(usual[name])
        self.mark_set_by_hand(by_hand)
