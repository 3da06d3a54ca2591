"""ImageMapResultView: a map with its legend, layouts and colours, the chosen images, and how to read it."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QWidget

from diffstudio.studio.evaluations.image_map.result import MapLayout
from diffstudio.studio.evaluations.plots import scatter
from diffstudio.studio.evaluations.views.image_map import CLASSES, PARTS, ImageMapView
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.ui.lab.image_map.canvas import MapCanvas
from diffstudio.ui.lab.image_map.legend import Legend
from diffstudio.ui.lab.image_map.selection import SelectionPanel
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.saving import SaveButton, SavedFile
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.wrapping_text import WrappingText

_CHOICE = 160  # px
_ONE_LAYOUT = "This map has one layout; Change… starts a map with others"
_NO_CLASSES = "The images have no classes"
_COLOURS = ((PARTS, "Colours: parts"), (CLASSES, "Colours: classes"))


class ImageMapResultView(ResultView):
    def __init__(self) -> None:
        super().__init__()
        self._view: ImageMapView | None = None
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Images on the map")
        self.layout_choice = ComboBox("Layout", (), "The layout of the features")
        self.colours = ComboBox("Colours", (), "Colour points by part or by class")
        self.zoom_in = SecondaryButton("", "plus", "Zoom in (+)", name="Zoom in", role="dim")
        self.zoom_out = SecondaryButton("", "minus", "Zoom out (-)", name="Zoom out", role="dim")
        self.everything = SecondaryButton("Show all", tooltip="Show the whole map (0)")
        self.save = SaveButton("map")
        self.legend, self.canvas, self.selection = Legend(), MapCanvas(), SelectionPanel()
        self.about = WrappingText("", "text")
        self.about.setAccessibleName("Trustworthiness of the map")
        self.how, self.notes = HowToRead(), Sentences("Notes", "warn")
        for choice in (self.layout_choice, self.colours):
            choice.setMinimumWidth(theme.scaled(_CHOICE))
        bar, row = QWidget(), FlowLayout(spacing=8)
        for control in (self.layout_choice, self.colours, self.zoom_out, self.zoom_in, self.everything, self.save):
            row.addWidget(control)
        bar.setLayout(row)
        for part in (self.summary, bar, self.legend, self.canvas, self.about, self.notes, self.selection, self.how):
            self.column.addWidget(part)
        self.layout_choice.chosen.connect(lambda _: self._show_layout())
        self.colours.chosen.connect(lambda _: self._show_colours())
        self.legend.hidden_changed.connect(lambda hidden: self._colour(hidden))
        self.zoom_in.clicked.connect(lambda: self.canvas.zoom(1))
        self.zoom_out.clicked.connect(lambda: self.canvas.zoom(-1))
        self.everything.clicked.connect(self.canvas.show_all)
        self.canvas.view_changed.connect(self._show_zoom)
        self.canvas.chosen.connect(self._show_chosen)
        self.canvas.menu_wanted.connect(self._open_menu)
        self.selection.menu_requested.connect(self.menu_requested)
        self.save.message.connect(self.message)

    def use(self, live: LiveTasks) -> None:
        self.selection.use(live)

    def show_result(self, result: ImageMapView) -> None:
        self._view = result
        self.summary.set_text(result.summary)
        self.layout_choice.set_choices([(place, one.title) for place, one in enumerate(result.layouts)])
        self.layout_choice.set_unavailable(_ONE_LAYOUT if len(result.layouts) == 1 else "")
        self.colours.set_choices([choice for choice in _COLOURS if choice[0] in result.colours])
        self.colours.set_unavailable(_NO_CLASSES if CLASSES not in result.colours else "")
        groups, group = result.colours[PARTS]
        self.legend.show_groups(groups, group)
        self.how.show_sentences([result.how_to_read])
        self.notes.show_sentences(result.notes)
        self._show_layout()

    def shut_down(self) -> None:
        self.canvas.shut_down()
        self.selection.shut_down()

    def _layout(self) -> MapLayout:
        assert self._view is not None
        return self._view.layouts[self.layout_choice.value() or 0]

    def _show_layout(self) -> None:
        """Show the chosen layout. The same image stays chosen."""
        view, canvas, layout = self._view, self.canvas, self._layout()
        assert view is not None
        first, second = (canvas.first, canvas.second) if canvas.shows(view) else (None, None)
        groups, group = view.colours[self.colours.value()]
        canvas.show_points(view, layout.coordinates, groups, group)
        self._colour(self.legend.hidden())
        if first is not None:
            canvas.choose(first)
            canvas.choose(second, second=True) if second is not None else None
        self.about.set_text(f"{layout.trusted()} {layout.about}")
        self._show_zoom()

    def _show_colours(self) -> None:
        assert self._view is not None
        self.legend.show_groups(*self._view.colours[self.colours.value()])
        self._colour(frozenset())

    def _colour(self, hidden: frozenset[int]) -> None:
        assert self._view is not None
        groups, group = self._view.colours[self.colours.value()]
        self.canvas.show_groups(groups, group, hidden)
        plot = self._view.scatter(self._layout(), self.colours.value())
        self.save.set_files(
            (
                SavedFile("Image (PNG)", f"{plot.name}.png", partial(scatter.png, plot)),
                SavedFile("Vector image (SVG)", f"{plot.name}.svg", lambda: scatter.svg(plot).encode()),
                SavedFile("Coordinates (CSV)", f"{plot.name}.csv", lambda: scatter.data(plot).encode()),
            )
        )

    def _show_zoom(self) -> None:
        self.everything.setEnabled(self.canvas.zoomed)
        self.zoom_out.setEnabled(self.canvas.zoomed)

    def _show_chosen(self, first: int | None, second: int | None) -> None:
        if self._view is not None:
            self.selection.show_chosen(self._view, first, second)

    def _open_menu(self, point: int, place: QPoint) -> None:
        if self._view is not None and (file := self._view.file(point)) is not None:
            self.menu_requested.emit(ImageTarget(file), place)
