"""Screenshots of the Lab: its pages, and the results of its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from screenshots.drawings import add_noise, draw_classes, draw_shapes, scratch
from screenshots.files import ROOT
from screenshots.recipes import CLASSES_RECIPE, VAE_RECIPE
from screenshots.session import Session, until


class LabShots(Session):
    """Each page with a result on images that are drawn here."""

    async def take_lab(self) -> None:
        """The result of an evaluation of drawn shapes: some as varied as the real ones, others of two colours alone."""
        real, varied, collapsed = (self.home / name for name in ("shapes", "varied", "collapsed"))
        for folder, count, seed, colours in ((real, 220, 0, 12), (varied, 100, 1000, 12), (collapsed, 100, 2000, 2)):
            draw_shapes(folder, count, seed, colours)
        room: Any = self.window.show_room("Lab")
        form_view = room.show_form("evaluate")
        form_view.form.fill([str(varied), str(collapsed), str(real), "--features", "imagenet"])

        def evaluations() -> list[Path]:
            return [path for path in room.jobs_list.cards() if room.summary(path).request.verb == "evaluate"]

        if not evaluations():
            form_view.start.click()
        await until(evaluations, "the evaluation was listed")
        room.select(evaluations()[0])
        await until(lambda: room.job_view.result_view() is not None, "the evaluation had its result")
        await self.save(self.window, "lab")

    async def take_noise_schedule(self) -> None:
        """A noise schedule that is being drawn, with the image of the starter."""
        from diffstudio.studio.curves.curve import NoiseCurve

        room: Any = self.window.show_room("Lab")
        view = room.show_interactive("noise-schedule")
        await until(lambda: view.controls.checkpoint(), "the starter was offered")
        view.canvas.set_curve(NoiseCurve.from_pairs((0, 9, 0.15, 4, 0.4, 1, 0.7, -1.5, 0.9, -5, 1, -12)))
        view.canvas.choose(2)
        await until(lambda: len(view.images.thumbnails()) > 1 and not view.answers.busy, "the images were drawn")
        await self.save(self.window, "noise_schedule")

    async def take_forward(self) -> None:
        """Noise on the first image of the starter's sheet."""
        room: Any = self.window.show_room("Lab")
        room.show_interactive("forward-process")
        await self.save(self.window, "forward")

    async def take_restore(self) -> None:
        """An image of the starter's sheet with noise that was added to it."""
        noisy = self.home / "noisy.png"
        add_noise(ROOT / "resources" / "starter" / "sheet.png", noisy)
        await self.job("restore", ["starter", str(noisy), "--share", "0.3"])
        await self.save(self.window, "restore")

    async def take_reverse(self) -> None:
        """The film of an image, in the middle."""
        room = await self.job("reverse", ["starter", "--prompt=red apple", "--seed", "3", "--guidance", "1"])
        film = room.job_view.result_view().film
        film.slider.setValue(4)
        await self.save(self.window, "reverse")

    async def take_map(self) -> None:
        """A map of drawn shapes and of others in two colours alone, with the image under the mouse."""
        real, collapsed = self.home / "shapes", self.home / "collapsed"
        for folder, count, seed, colours in ((real, 220, 0, 12), (collapsed, 100, 2000, 2)):
            draw_shapes(folder, count, seed, colours)
        room: Any = self.window.show_room("Lab")
        form_view = room.show_form("map")
        form_view.form.fill([str(collapsed), str(real)])

        def maps() -> list[Path]:
            return [path for path in room.jobs_list.cards() if room.summary(path).request.verb == "map"]

        if not maps():
            form_view.start.click()
        await until(maps, "the map was listed")
        room.select(maps()[0])
        await until(lambda: room.job_view.result_view() is not None, "the map had its result")
        canvas = room.job_view.result_view().canvas
        canvas.choose(40)
        canvas.hovered = 250  # as under the mouse
        canvas.update()
        await self.save(self.window, "map")

    async def take_attention(self) -> None:
        """The words of a prompt on the starter, the first of them shown."""
        room = await self.job("attention", ["starter", "red heart", "--seed", "1"])
        room.job_view.result_view().maps.words.chip(0).click()
        self.window.setFocus()
        await self.save(self.window, "attention")

    async def take_representations(self) -> None:
        """What the starter sees of drawn shapes: circles and squares apart, each in any colour, size and place."""
        folder = self.home / "classes"
        draw_classes(folder, 300)
        await self.job("features", ["starter", str(folder)])
        await self.save(self.window, "representations")

    async def take_anomalies(self) -> None:
        """The most anomalous of drawn shapes, a few of which have a scratch."""
        normal, searched = self.home / "shapes", self.home / "inspection"
        draw_shapes(normal, 220, 0, 12)
        draw_shapes(searched, 30, 5000, 12)
        scratch(sorted(searched.iterdir())[:6])
        room = await self.job("anomalies", [str(normal), str(searched)])
        room.job_view.result_view().setFocus()
        await self.save(self.window, "anomalies")

    async def take_comparison(self) -> None:
        """Three models of drawn circles and squares, after a minute each."""
        folder = self.home / "compared"
        draw_classes(folder, 480)
        await self.job_once("compare", [str(folder), "--minutes", "1", "--seeds", "1", "--features", "imagenet"])
        await self.save(self.window, "comparison")

    async def take_synthetic(self) -> None:
        """What classifiers of circles and squares learn from real and generated ones."""
        folder = self.home / "compared"
        draw_classes(folder, 480)
        checkpoint = await self.trained("circles and squares", folder, CLASSES_RECIPE)
        await self.job_once("synthesise", [str(checkpoint), "480", str(folder), "--prove"])
        await self.save(self.window, "synthetic")

    async def take_likelihood(self) -> None:
        """The bits per dimension of drawn shapes under a VAE that has learnt some of them by heart."""
        shapes = self.home / "shapes"
        checkpoint = await self.shapes_vae(shapes)
        await self.job_once("likelihood", [str(checkpoint), str(shapes)])
        await self.save(self.window, "likelihood")

    async def take_latent_space(self) -> None:
        """The reconstruction of a drawn shape by a VAE, moved in a direction, and its way to another shape."""
        shapes = self.home / "shapes"
        await self.shapes_vae(shapes)
        room: Any = self.window.show_room("Lab")
        view = room.show_interactive("latent-space")
        await until(view.model.value, "the VAE was offered")
        view.first.set_image(shapes / "007.png")
        view.last.set_image(shapes / "003.png")
        await until(lambda: view.directions.isVisible() and not view.answers.busy, "the image was encoded")
        view.directions.slider(0).set_value(1.0)
        view.directions.changed.emit()
        await until(lambda: len(view.points.thumbnails()) == 3 and not view.answers.busy, "the image was moved")
        self.window.setFocus()
        await self.save(self.window, "latent_space")

    async def check_lab_form(self) -> None:
        """The form of an evaluation."""
        room: Any = self.window.show_room("Lab")
        room.show_form("evaluate")
        await self.save(self.window, "lab_form")

    async def job(self, verb: str, arguments: list[str]) -> Any:
        """The Lab with the result of a new job."""
        room: Any = self.window.show_room("Lab")
        form_view = room.show_form(verb)
        form_view.form.fill(arguments)
        form_view.start.click()
        await until(room.selected, "the job was started")
        await until(lambda: room.summary() and room.summary().result, "the job had its result")
        await until(lambda: room.job_view.result_view() is not None, "its result was read")
        return room

    async def job_once(self, verb: str, arguments: list[str]) -> None:
        """Show the result of a job; that of an earlier call, where its home was kept."""
        room: Any = self.window.show_room("Lab")
        kept = len(list((self.home / "lab").glob("*/request.json")))
        await until(lambda: len(room.jobs_list.cards()) >= kept, "the earlier jobs were listed")

        def jobs() -> list[Path]:
            return [path for path in room.jobs_list.cards() if room.summary(path).request.verb == verb]

        if not jobs():
            await self.job(verb, arguments)
        room.select(jobs()[0])
        await until(lambda: room.job_view.result_view() is not None, "the job had its result")

    async def shapes_vae(self, shapes: Path) -> Path:
        """A checkpoint of a VAE of drawn shapes."""
        draw_shapes(shapes, 220, 0, 12)
        return await self.trained("shapes VAE", shapes, VAE_RECIPE)
