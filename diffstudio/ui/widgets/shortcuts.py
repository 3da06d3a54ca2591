"""Every keyboard shortcut of the program, in one table: what it does, where, and with which keys.

Controls make their shortcuts with the functions at the end, so that the list which `?` opens is complete. Keys that a
widget handles in its `keyPressEvent` are in the table too, with the module that handles them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence, QShortcut
from PySide6.QtWidgets import QPushButton, QWidget

from diffstudio.ui.widgets import actions

_Standard = QKeySequence.StandardKey
_JOB_CARD = "generate/queue/job_card"
_FILM = "lab/results/film_view"
_CURVE = "lab/noise_schedule/canvas"
_STAR = "Star, or remove the star"
_GENERATE_KEYS = ("Ctrl+Return", "Ctrl+Enter")


class Place(StrEnum):
    """Where a shortcut works, in the order of the list."""

    EVERYWHERE = "Everywhere"
    GENERATE = "Generate"
    PROMPT = "Prompt"
    CANVAS = "Image in Generate"
    QUEUE = "Queue"
    GALLERY = "Gallery"
    VIEWER = "Image opened in the gallery"
    MODELS = "Models"
    TRAIN = "Train"
    LAB = "Lab"
    MASK = "Mask editor"
    UPSCALE = "Upscale dialog"
    MANUAL = "Manual"


@dataclass(frozen=True, slots=True)
class Shortcut:
    """`keys` are alternatives."""

    place: Place
    what: str
    keys: tuple[str | QKeySequence.StandardKey, ...]
    handled_in: str = (
        ""  # the module of the keyPressEvent, below `ui/`; empty when `bind` or a function like it makes it
    )

    def sequences(self) -> list[QKeySequence]:
        """The keys on this system; none for a standard action that it has no key for."""
        return [sequence for key in self.keys if not (sequence := QKeySequence(key)).isEmpty()]

    def text(self) -> str:
        """The keys as the system writes them: `Ctrl+Enter`, or `⌘↩` on a Mac."""
        texts = [native_text(sequence) for sequence in self.sequences()]
        return " or ".join(dict.fromkeys(texts))


def native_text(keys: QKeySequence) -> str:
    """The system's notation, with the usual name of the Enter key."""
    text = keys.toString(QKeySequence.SequenceFormat.NativeText)
    return text.replace("Return", "Enter")


P = Place

ROOMS = tuple(
    Shortcut(P.EVERYWHERE, f"Show the room {room}", (f"Ctrl+{index}",))
    for index, room in enumerate(("Generate", "Gallery", "Models", "Train", "Lab"), 1)
)
MANUAL = Shortcut(P.EVERYWHERE, actions.MANUAL_PAGE, ("F1",))
SHORTCUTS = Shortcut(P.EVERYWHERE, f"{actions.SHORTCUTS}, outside text fields", ("?",))
SETTINGS = Shortcut(P.EVERYWHERE, "Settings", ("Ctrl+,",))
QUIT = Shortcut(P.EVERYWHERE, "Quit", (_Standard.Quit,))
ACTIVATE = Shortcut(
    P.EVERYWHERE, "Activate the focused control or image", ("Return", "Enter", "Space"), "widgets/activation"
)
CHOOSE_IN_GRID = Shortcut(
    P.EVERYWHERE,
    "Choose an image of a grid",
    ("Left", "Right", "Up", "Down", "Home", "End"),
    "widgets/images/roving_focus",
)
COLUMN_WIDTH = Shortcut(
    P.EVERYWHERE, "Change the width of a column (on its edge)", ("Left", "Right"), "widgets/layout/columns"
)
USUAL_WIDTH = Shortcut(P.EVERYWHERE, "Reset the column width (divider focused)", ("Home",), "widgets/layout/columns")

GENERATE = Shortcut(P.GENERATE, "Generate, or add to the queue", _GENERATE_KEYS)
PAUSE = Shortcut(P.GENERATE, "Pause or resume the running job", ("Ctrl+P",))
STOP = Shortcut(P.GENERATE, "Stop the running job", ("Ctrl+.",))
UPSCALE = Shortcut(P.GENERATE, "Upscale the image", ("Ctrl+E",))
FULL_SCREEN = Shortcut(P.GENERATE, "Full screen, and back", ("F11",))
UNDO_SETTINGS = Shortcut(P.GENERATE, "Undo settings, outside text fields", ("Ctrl+Z",))
REDO_SETTINGS = Shortcut(P.GENERATE, "Redo settings, outside text fields", ("Ctrl+Shift+Z", "Ctrl+Y"))

WEIGHT = Shortcut(
    P.PROMPT, "Change the weight of the selected text", ("Ctrl+Up", "Ctrl+Down"), "generate/sections/prompt"
)
HISTORY = Shortcut(
    P.PROMPT,
    "Earlier prompts (with Alt when there is text)",
    ("Up", "Down", "Alt+Up", "Alt+Down"),
    "generate/sections/prompt",
)
GENERATE_FROM_PROMPT = Shortcut(P.PROMPT, "Generate", _GENERATE_KEYS, "generate/sections/prompt")
LORA_LIST = Shortcut(P.PROMPT, "Move from the LoRA search to the list", ("Down",), "generate/sections/lora_section")

COPY_IMAGE = Shortcut(P.CANVAS, actions.COPY_IMAGE, (_Standard.Copy,))
SAVE_IMAGE = Shortcut(P.CANVAS, "Save a copy", (_Standard.Save,))
CHOOSE_IMAGE = Shortcut(
    P.CANVAS, "Choose an image of the batch", ("Left", "Right", "Up", "Down"), "generate/canvas/canvas"
)
ONE_IMAGE = Shortcut(
    P.CANVAS, "Show one image of the batch, or all", ("Return", "Enter", "Space"), "generate/canvas/canvas"
)
ALL_IMAGES = Shortcut(
    P.CANVAS, "Leave the zoom, full screen, or the single image", ("Escape",), "generate/canvas/canvas"
)
ZOOM_CANVAS_IN = Shortcut(P.CANVAS, "Zoom in", ("+", "="), "generate/canvas/canvas")
ZOOM_CANVAS_OUT = Shortcut(P.CANVAS, "Zoom out", ("-",), "generate/canvas/canvas")
FIT_CANVAS = Shortcut(P.CANVAS, "Fit to window", ("0",), "generate/canvas/canvas")
CANVAS_PIXELS = Shortcut(P.CANVAS, "Actual size (100%)", ("1",), "generate/canvas/canvas")
PAN_CANVAS = Shortcut(P.CANVAS, "Pan a zoomed image", ("Left", "Right", "Up", "Down"), "generate/canvas/canvas")

CHOOSE_JOB = Shortcut(
    P.QUEUE, "Select another job; with Alt, move this one", ("Up", "Down", "Alt+Up", "Alt+Down"), _JOB_CARD
)
EDIT_JOB = Shortcut(P.QUEUE, "Edit the job", ("F2",), _JOB_CARD)
REMOVE_JOB = Shortcut(P.QUEUE, "Remove the job", ("Delete",), _JOB_CARD)
OPEN_JOB = Shortcut(P.QUEUE, "Show the settings of the job", ("Return", "Enter", "Space"), _JOB_CARD)
UNDO_REMOVAL = Shortcut(P.QUEUE, actions.BRING_BACK, ("Ctrl+Z",), "generate/queue/job_list")

SEARCH_IMAGES = Shortcut(P.GALLERY, "Search", (_Standard.Find,))
STAR_IMAGES = Shortcut(P.GALLERY, _STAR, ("Ctrl+D",))
COPY_IMAGES = Shortcut(P.GALLERY, "Copy", (_Standard.Copy,))
SAVE_IMAGES = Shortcut(P.GALLERY, "Save a copy", (_Standard.Save,))
UNDO_DELETION = Shortcut(P.GALLERY, "Undo deletions, the last one first", (_Standard.Undo,))
USE_SETTINGS = Shortcut(P.GALLERY, actions.USE_SETTINGS, ("Ctrl+U",))
UPSCALE_IMAGE = Shortcut(P.GALLERY, "Upscale the image", ("Ctrl+E",))
DELETE_IMAGES = Shortcut(P.GALLERY, actions.DELETE, (_Standard.Delete,))
DELETE_FROM_GRID = Shortcut(P.GALLERY, "Delete the selected images", ("Delete", "Backspace"), "gallery/grid")
OPEN_IMAGE = Shortcut(P.GALLERY, "Open the image", ("Return", "Enter"), "gallery/grid")

GO_BACK = Shortcut(P.GALLERY, "Back to the grid, or out of the trash", ("Escape",))
COMPARE_DIVIDER = Shortcut(P.GALLERY, "Move the divider of a comparison", ("Left", "Right"), "gallery/compare_view")
COMPARE_ZOOM = Shortcut(
    P.GALLERY,
    "Zoom into both images, fit them, or show actual pixels",
    ("+", "=", "-", "0", "1"),
    "gallery/compare_view",
)
CLOSE_COMPARISON = Shortcut(P.GALLERY, "Close the comparison", ("Escape",), "gallery/compare_view")
REMOVE_TAG = Shortcut(P.GALLERY, "Remove the tag that has the focus", ("Delete", "Backspace"), "gallery/tag_editor")

PREVIOUS = Shortcut(P.VIEWER, "Previous image", ("Left", "Up", "PgUp"), "gallery/image_view")
NEXT = Shortcut(P.VIEWER, "Next image", ("Right", "Down", "PgDown", "Space"), "gallery/image_view")
ZOOM_IN = Shortcut(P.VIEWER, "Zoom in", ("+", "="), "gallery/image_view")
ZOOM_OUT = Shortcut(P.VIEWER, "Zoom out", ("-",), "gallery/image_view")
ZOOM_TO_FIT = Shortcut(P.VIEWER, "Fit to window", ("0",), "gallery/image_view")
ZOOM_TO_PIXELS = Shortcut(P.VIEWER, "Actual size", ("1",), "gallery/image_view")
CLOSE_VIEWER = Shortcut(P.VIEWER, "Back to the gallery", ("Escape",), "gallery/image_view")

SEARCH_MODELS = Shortcut(P.MODELS, "Search", ("Ctrl+F",))
STAR_MODEL = Shortcut(P.MODELS, _STAR, ("Ctrl+D",))
ADD_MODEL_FILES = Shortcut(P.MODELS, "Add model files", ("Ctrl+O",))
ADD_MODEL_FOLDER = Shortcut(P.MODELS, "Add a folder of models", ("Ctrl+Shift+O",))
ADD_MODEL_LINK = Shortcut(P.MODELS, "Add a model from a link", ("Ctrl+L",))
PASTE_MODELS = Shortcut(P.MODELS, "Add the files or the link in the clipboard", ("Ctrl+V",))
RENAME_MODEL = Shortcut(P.MODELS, "Rename the model", ("F2",))
RESCAN_MODELS = Shortcut(P.MODELS, "Rescan the model folders", ("F5",))
USE_MODEL = Shortcut(P.MODELS, "Use the model in Generate", ("Return", "Enter"), "models/checkpoint_list")
DELETE_MODEL = Shortcut(P.MODELS, "Move the model to the trash", ("Delete",), "models/checkpoint_list")

TRAINING_FOLDER = Shortcut(P.TRAIN, "Choose the folder to train on", ("Ctrl+O",))
NEW_RUN = Shortcut(P.TRAIN, "New run", ("Ctrl+N",))
REMOVE_RUN = Shortcut(P.TRAIN, "Remove the run", ("Delete",))
START_RUN = Shortcut(P.TRAIN, "Start the run", _GENERATE_KEYS)
CANCEL_INSPECTION = Shortcut(P.TRAIN, "Cancel the inspection of a folder", ("Escape",))
SAVE_CAPTION = Shortcut(P.TRAIN, "Save the caption of a training image", ("Ctrl+S",))
CHOOSE_RUN = Shortcut(P.TRAIN, "Choose a run", ("Up", "Down"), "train/runs_list")
CHOOSE_SAMPLE = Shortcut(
    P.TRAIN, "Choose a sample in All steps", ("Left", "Right", "Up", "Down", "Home", "End"), "train/run/sample_wall"
)

NEW_JOB = Shortcut(P.LAB, "New job", ("Ctrl+N",))
START_JOB = Shortcut(P.LAB, "Start the job", _GENERATE_KEYS)
CANCEL_JOB = Shortcut(P.LAB, "Cancel the job", ("Ctrl+.",))
RENAME_JOB = Shortcut(P.LAB, "Rename the job", ("F2",))
DELETE_JOB = Shortcut(P.LAB, "Move the job to the system trash", ("Delete",))
ACCEPT_IMAGE = Shortcut(P.LAB, "Accept the selected images as normal", ("A",))
REJECT_IMAGE = Shortcut(P.LAB, "Reject the selected images as anomalies", ("R",))
HEAT_MAPS = Shortcut(P.LAB, "Show or hide the heat maps", ("H",))
MAP_IMAGE = Shortcut(P.LAB, "Go to the next image on a map", ("Left", "Right", "Up", "Down"), "lab/image_map/canvas")
MAP_SECOND = Shortcut(
    P.LAB,
    "Choose a second image on a map",
    ("Shift+Left", "Shift+Right", "Shift+Up", "Shift+Down"),
    "lab/image_map/canvas",
)
MAP_MENU = Shortcut(P.LAB, "Open the menu of an image on a map", ("Return", "Enter", "Space"), "lab/image_map/canvas")
MAP_ZOOM = Shortcut(
    P.LAB, "Zoom into a map, out of it, or show all of it", ("+", "=", "-", "0"), "lab/image_map/canvas"
)
MAP_NONE = Shortcut(P.LAB, "Choose no image on a map", ("Escape",), "lab/image_map/canvas")
CHOOSE_POINT = Shortcut(P.LAB, "Choose a point of the noise schedule", ("Left", "Right", "Home", "End"), _CURVE)
MOVE_POINT = Shortcut(
    P.LAB, "Move the point; with Shift in small steps", ("Up", "Down", "Ctrl+Left", "Ctrl+Right"), _CURVE
)
ADD_POINT = Shortcut(P.LAB, "Add a point to the noise schedule", ("Insert", "+"), _CURVE)
REMOVE_POINT = Shortcut(P.LAB, "Remove the point", ("Delete", "Backspace"), _CURVE)
UNDO_CURVE = Shortcut(P.LAB, "Undo the last change of the noise schedule", (_Standard.Undo,))
MOVE_DIVIDER = Shortcut(
    P.LAB, "Move the divider between before and after", ("Left", "Right", "Home", "End"), "lab/results/before_after"
)
CHOOSE_FRAME = Shortcut(P.LAB, "Go to another step of a film", ("Left", "Right", "Home", "End"), _FILM)
PLAY_FILM = Shortcut(P.LAB, "Play or pause a film", ("Space",), _FILM)
MOVE_WORD_MARK = Shortcut(
    P.LAB, "Move the mark on the image of words", ("Left", "Right", "Up", "Down"), "lab/results/word_maps"
)
CHOOSE_LAB_JOB = Shortcut(P.LAB, "Choose a job", ("Up", "Down"), "lab/jobs_list")

UNDO_MASK = Shortcut(P.MASK, "Undo", ("Ctrl+Z",))
REDO_MASK = Shortcut(P.MASK, "Redo", ("Ctrl+Shift+Z",))
INVERT_MASK = Shortcut(P.MASK, "Invert the mask", ("Ctrl+I",))
FILL_MASK = Shortcut(P.MASK, "Mask everything", ("Ctrl+A",))
CLEAR_MASK = Shortcut(P.MASK, "Clear the mask", ("Delete",))
ACCEPT_MASK = Shortcut(P.MASK, "Use the mask", ("Ctrl+Return",))
BRUSH_SIZE = Shortcut(P.MASK, "Smaller or larger brush", ("[", "]"), "generate/mask/editor")
ERASE = Shortcut(P.MASK, "Paint or erase", ("E",), "generate/mask/editor")
PAN = Shortcut(P.MASK, "Hold to move the image", ("Space",), "generate/mask/editor")

PAGE_BACK = Shortcut(P.MANUAL, "Previous page", ("Alt+Left",))
PAGE_FORWARD = Shortcut(P.MANUAL, "Next page", ("Alt+Right",))
CONTENTS = Shortcut(P.MANUAL, "Contents", ("Alt+Home",))
FIND_ON_PAGE = Shortcut(P.MANUAL, actions.FIND_ON_PAGE, ("Ctrl+F",))
CLOSE_MANUAL = Shortcut(P.MANUAL, "Close", ("Escape",))

ACCEPT_UPSCALE = Shortcut(P.UPSCALE, "Upscale", _GENERATE_KEYS)


def table() -> list[Shortcut]:
    """Every shortcut, sorted by where it works."""
    named = [value for value in globals().values() if isinstance(value, Shortcut)]
    places = list(Place)
    return sorted((*ROOMS, *named), key=lambda each: places.index(each.place))


# What makes them

_CONTEXT = Qt.ShortcutContext.WidgetWithChildrenShortcut


def bind(
    shortcut: Shortcut, widget: QWidget, do: Callable[[], object], context: Qt.ShortcutContext = _CONTEXT
) -> list[QShortcut]:
    """Let the keys call `do()` while the focus is in the widget."""
    made = []
    for sequence in shortcut.sequences():
        each = QShortcut(sequence, widget)
        each.setContext(context)
        each.activated.connect(do)
        made.append(each)
    return made


def bind_in_window(shortcut: Shortcut, widget: QWidget, do: Callable[[], object]) -> list[QShortcut]:
    """Let the keys call `do()` wherever in its window the focus is."""
    return bind(shortcut, widget, do, Qt.ShortcutContext.WindowShortcut)


def bind_button(shortcut: Shortcut, button: QPushButton) -> None:
    """Let the first of the keys press a button."""
    button.setShortcut(shortcut.sequences()[0])


def bind_action(shortcut: Shortcut, action: QAction) -> None:
    """Let the keys trigger the action of a widget while that has the focus."""
    action.setShortcuts(shortcut.sequences())
    action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
