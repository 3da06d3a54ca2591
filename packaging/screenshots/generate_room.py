"""Screenshots of the Generate room and its dialogs."""

from __future__ import annotations

from typing import Any

from screenshots.session import STARRED, Session, settled, until

HALF_WAY = 14  # steps: more than any earlier image has in all


class GenerateShots(Session):
    """The panel, the mask, and what comes of them."""

    async def take_generate(self) -> None:
        """An image half-way through its steps, and two waiting jobs."""
        await self.show_generate()
        await settled(self.window)  # nothing is waited for half-way
        steps = self.panel.sampling.steps
        usual = steps.value()
        steps.set_value(2 * HALF_WAY)
        for prompt, seed, count in (("grinning face", 3, 1), ("sailboat", 8, 4), ("cactus", 5, 1)):
            self.submit(prompt, seed, count)
        self.panel.prompt.set_text("grinning face")
        self.panel.seed.set_fixed(3)
        self.panel.seed.random.setChecked(True)
        await until(lambda: self.room.filmstrip.last_step() == HALF_WAY, "half of the steps were made", every=0.01)
        await self.save(self.window, "generate", at_once=True)
        steps.set_value(usual)

    async def take_mask(self) -> None:
        """The mask dialog: a painted area, and the canvas extended to the right."""
        dialog = await self.open_mask_dialog()
        dialog.editor.set_sides((0, 0, 16, 0))
        dialog.editor.extended.emit()
        await self.save(dialog, "mask")
        dialog.done(0)

    async def take_inpaint(self) -> None:
        """The result of inpainting the painted area."""
        dialog = await self.open_mask_dialog()
        dialog.accept_button.click()
        section = self.panel.init_image
        section.masked_only.setChecked(True)
        section.feather.set_value(4)
        self.submit("purple heart", 4)
        await self.idle()
        await self.save(self.window, "inpaint")

    async def take_hires_fix(self) -> None:
        """An image that hires fix has made four times as large."""
        await self.show_generate()
        self.panel.hires_fix.open_button.click()
        self.panel.hires_fix.scale.chip(4.0).click()
        self.submit("grinning face", 1)
        await self.idle()
        self.panel.hires_fix.opened.emit()  # scroll to its settings
        await self.save(self.window, "hires_fix")

    async def check_guidance(self) -> None:
        """The guidance settings with all of their controls, and the diversity of a batch."""
        await self.show_generate()
        guidance = self.panel.guidance
        guidance.open_button.click()
        guidance.interval.setChecked(True)
        guidance.cads.set_value(0.15)
        guidance.cads.value_changed.emit(0.15)
        self.submit("grinning face", 1, count=4)
        await self.idle()
        await until(self.room.diversity.isVisible, "the diversity of the batch was shown")
        guidance.opened.emit()  # scroll to its settings
        await self.save(self.window, "guidance")

    async def check_upscale(self) -> None:
        from diffstudio.ui.generate.upscale_dialog import UpscaleDialog

        self.desktop.images.upscale(self.image_of(STARRED[0]).path)
        await until(lambda: self.window.findChild(UpscaleDialog), "the dialog opened")
        dialog: Any = self.window.findChild(UpscaleDialog)
        await self.save(dialog, "upscale")
        dialog.reject()

    async def open_mask_dialog(self) -> Any:
        """The mask dialog over the snowman, its body painted."""
        from PySide6.QtCore import QPointF

        await self.show_generate()
        self.room.start_from(self.image_of("snowman").path)
        dialog = self.panel.init_image.open_mask_editor()
        assert dialog is not None
        editor = dialog.editor
        dialog.brush.set_value(14)
        editor.set_brush(14)
        for row in range(34, 58, 4):
            reach = 17 if 40 < row < 54 else 12
            editor.begin_stroke(QPointF(32 - reach, row))
            editor.stroke_to(QPointF(32 + reach, row))
            editor.end_stroke()
        return dialog
