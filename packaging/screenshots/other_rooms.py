"""Screenshots of the Gallery, Models and Train rooms, and of the settings."""

from __future__ import annotations

from typing import Any

from screenshots.recipes import RECIPE
from screenshots.session import STARRED, Session, until


class GalleryShots(Session):
    """The images, two of them compared, and the trash."""

    async def take_gallery(self) -> None:
        room: Any = self.window.show_room("Gallery")
        await until(lambda: room.model.rowCount() > 0 and not room.busy(), "the gallery was read")
        room.grid.setCurrentIndex(room.model.index(5))
        await self.save(self.window, "gallery")

    async def check_compare(self) -> None:
        """Two images of the gallery."""
        room: Any = self.window.show_room("Gallery")
        room.compare([self.image_of(prompt).path for prompt in STARRED[:2]])
        await until(room.is_comparing, "the images were read")
        await self.save(self.window, "compare")

    async def check_trash(self) -> None:
        """The trash with an image in it."""
        room: Any = self.window.show_room("Gallery")
        await until(lambda: room.model.rowCount() > 0 and not room.busy(), "the gallery was read")
        room.grid.setCurrentIndex(room.model.index(0))
        room.delete_chosen()
        await until(room.top_bar.trash.isVisible, "the image was in the trash")
        room.show_trash()
        await until(lambda: room.trash_bar.isVisible() and not room.busy() and room.model.rowCount(), "it was shown")
        room.grid.setCurrentIndex(room.model.index(0))
        await self.save(self.window, "trash")
        room.leave_trash()


class ModelsShots(Session):
    """The models, one of them chosen."""

    async def take_models(self) -> None:
        from diffstudio.studio.library.annotations import Annotation

        room: Any = self.window.show_room("Models")
        lora = self.home / "models" / "loras" / "inkwash.safetensors"
        await until(lambda: room.choose(lora), "the models were scanned")
        room.details.notes.changed.emit(
            Annotation(
                "0.6 is enough with watercolour-15. Leave “monochrome” out for colour.", ("paper", "brush"), True
            )
        )
        await until(lambda: any(name == "SHA-256" for name, _ in room.details.model_table.facts()), "it was hashed")
        await until(lambda: room.details.trigger_words.words(), "its trigger words were read")
        await self.save(self.window, "models")


class TrainShots(Session):
    """A folder of images, and a run on it."""

    async def take_train(self) -> None:
        """A run after three quarters of its steps; the one of an earlier call, where its home was kept."""
        import tomli_w

        from diffstudio.studio.requests import TrainRequest

        folder = self.training_folder()
        recipe = self.home / "screenshots.toml"
        recipe.write_text(tomli_w.dumps(RECIPE), encoding="utf-8")
        room: Any = self.window.show_room("Train")
        runs = self.desktop.runs
        assert runs is not None
        earlier = [summary.run for summary in runs.list()]
        run = earlier[0] if earlier else runs.start(TrainRequest(folder=folder, recipe=str(recipe)), name="emoji")
        room.refresh()
        await until(lambda: any(card == run.path for card in room.runs_list.cards()), "the run was listed")
        room.select(run.path)
        first = 1 if earlier else 90 if self.shots.is_check else 180
        await until(lambda: room.summary() and room.summary().step >= first, f"the run had made {first} steps")
        await self.save(self.window, "train")
        if not earlier:
            runs.stop(run)

    async def check_folder(self) -> None:
        """A folder that was inspected, and the form for a run."""
        room: Any = self.window.show_room("Train")
        room.inspect(self.training_folder())
        await until(lambda: room.new_panel.run_settings() is not None, "the folder was inspected")
        await self.save(self.window, "folder")

    async def check_captions(self) -> None:
        """The captions of that folder, one of them open."""
        from diffstudio.ui.train.folder.folder_view import CAPTIONS

        room: Any = self.window.show_room("Train")
        if room.new_panel.run_settings() is None or room.selected() is not None:
            room.inspect(self.training_folder())
            await until(lambda: room.new_panel.run_settings() is not None, "the folder was inspected")
        view = room.folder_view.report_view
        view.pages.chip(CAPTIONS).click()
        view.captions.list.setCurrentIndex(view.captions.model.index(2))
        await self.save(self.window, "captions")

    async def check_recipe(self) -> None:
        """All settings of the recipe for that folder."""
        room: Any = self.window.show_room("Train")
        room.inspect(self.training_folder())
        await until(lambda: room.new_panel.run_settings() is not None, "the folder was inspected")
        dialog = room.new_panel.open_all_settings()
        await self.save(dialog, "recipe")
        dialog.reject()

    async def check_wall(self) -> None:
        """The samples of all steps of the run of `take_train`."""
        room: Any = self.window.show_room("Train")
        assert self.desktop.runs is not None
        room.select(self.desktop.runs.list()[0].run.path)
        samples = room.run_view.samples
        await until(lambda: samples.all_steps.isVisible(), "the run had two sheets of samples")
        samples.all_steps.setChecked(True)
        await self.save(self.window, "wall")
        samples.all_steps.setChecked(False)


class SettingsShots(Session):
    """The settings."""

    async def check_settings(self) -> None:
        from diffstudio.ui.settings_dialog import SettingsDialog

        self.desktop.preferences.open_dialog()
        dialog: Any = self.window.findChild(SettingsDialog)
        await self.save(dialog, "settings")
        dialog.close()
