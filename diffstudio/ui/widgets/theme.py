"""The dark and the light theme: colours by role, and one style sheet made from them.

The name of the theme is a property of the QApplication. Painted widgets and icons call `colour(role)` when they paint, so
a change of theme only needs a repaint, and a new style sheet causes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

RADIUS = 8  # px, of cards, fields and images
FONT_PIXELS = 13
SMALL_PIXELS = 12
TINY_PIXELS = 11

_HAS_FONT = Qt.WidgetAttribute.WA_SetFont
_REMEMBERED = "_q_styleSheetWidgetFont"  # what Qt gives a widget back whenever the style sheet is applied to it again
_PROPERTY, _TEXT_SIZE = "diffstudioTheme", "diffstudioTextSize"


@dataclass(frozen=True, slots=True)
class Roles:
    """The colours by role. A test checks the contrast of the text roles on `background`, `panel` and `raised`."""

    background: str  # behind images
    panel: str  # columns of controls
    raised: str  # fields, cards, buttons
    hover: str  # a raised control under the pointer
    line: str  # borders
    text: str
    dim: str  # secondary text
    hint: str  # placeholders: text that explains an empty field
    edge: str  # the edge of a control that nothing else shows: check boxes, slider knobs
    faint: str  # disabled controls, decoration
    accent: str  # selection, progress
    strong: str  # the primary button
    strong_hover: str
    on_strong: str  # text on the primary button
    chosen: str  # background of a selected chip or row
    good: str
    warn: str
    bad: str
    knob: str  # of a slider


DARK = Roles(
    background="#101216",
    panel="#171a20",
    raised="#1f232b",
    hover="#272c36",
    line="#2a2f39",
    text="#e7e9ee",
    dim="#9aa3b2",
    hint="#8b94a4",
    edge="#79839a",
    faint="#5f6877",
    accent="#7c9cff",
    strong="#4764ee",
    strong_hover="#3f5be0",
    on_strong="#ffffff",
    chosen="#2a3350",
    good="#57c28a",
    warn="#e5b567",
    bad="#e2697a",
    knob="#e7e9ee",
)
LIGHT = Roles(
    background="#eef0f4",
    panel="#f8f9fb",
    raised="#ffffff",
    hover="#eceff5",
    line="#d8dce4",
    text="#1b1f27",
    dim="#566072",
    hint="#5f697c",
    edge="#7f889a",
    faint="#99a1b0",
    accent="#3f5fe0",
    strong="#4262ea",
    strong_hover="#3552d6",
    on_strong="#ffffff",
    chosen="#e2e8ff",
    good="#1f7a4d",
    warn="#8a5b00",
    bad="#b8283e",
    knob="#ffffff",
)


def name() -> str:
    """The current theme: `dark` or `light`."""
    app = QGuiApplication.instance()
    return str((app.property(_PROPERTY) if app else None) or "dark")


def roles() -> Roles:
    return LIGHT if name() == "light" else DARK


def text_factor() -> float:
    """How much larger all text is than designed: 1.5 for a text size of 150%."""
    app = QGuiApplication.instance()
    return float((app.property(_TEXT_SIZE) if app else None) or 100) / 100


def scaled(pixels: float) -> int:
    """A length that text needs, in px, at the current text size."""
    return round(pixels * text_factor())


def colour(role: str) -> QColor:
    """The colour of a role (a field of Roles) in the current theme."""
    return QColor(getattr(roles(), role))


def resolve(setting: str) -> str:
    """`dark` or `light` for the setting `dark`, `light` or `system` (dark when the system has no preference)."""
    if setting in ("dark", "light"):
        return setting
    light = QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Light
    return "light" if light else "dark"


def apply(app: QApplication, setting: str = "dark", text_percent: int = 0) -> None:
    """Apply a theme to the application; may be called again at any time. For another text size see `text_size`."""
    before = text_factor()
    fonts = [(widget, QFont(widget.font())) for widget in app.allWidgets() if widget.testAttribute(_HAS_FONT)]
    app.setProperty(_PROPERTY, resolve(setting))
    if text_percent:
        app.setProperty(_TEXT_SIZE, text_percent)
    if app.style().objectName() != "fusion":
        app.setStyle("Fusion")
    app.setFont(font())
    app.setPalette(_palette(roles()))
    for widget, own in fonts:
        if own.pixelSize() > 0:
            own.setPixelSize(scaled(round(own.pixelSize() / before)))
            if widget.property(_REMEMBERED) is not None:
                widget.setProperty(_REMEMBERED, own)
    app.setStyleSheet(style_sheet(roles()))
    for widget, own in fonts:
        widget.setFont(own)


def font(pixels: int = FONT_PIXELS, *, bold: bool = False, spaced: bool = False) -> QFont:
    """Inter if it is loaded, otherwise the system font, at the current text size. `spaced` is for capitals."""
    result = (
        QFont("Inter")
        if "Inter" in QFontDatabase.families()
        else QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    )
    result.setPixelSize(scaled(pixels))
    result.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
    if spaced:
        result.setLetterSpacing(QFont.SpacingType.AbsoluteSpacing, 0.5)
    return result


def _palette(roles: Roles) -> QPalette:
    palette = QPalette()
    kinds = QPalette.ColorRole
    for kind, role in (
        (kinds.Window, roles.panel),
        (kinds.Base, roles.raised),
        (kinds.AlternateBase, roles.panel),
        (kinds.Button, roles.raised),
        (kinds.ToolTipBase, roles.raised),
        (kinds.WindowText, roles.text),
        (kinds.Text, roles.text),
        (kinds.ButtonText, roles.text),
        (kinds.ToolTipText, roles.text),
        (kinds.BrightText, roles.bad),
        (kinds.PlaceholderText, roles.hint),
        (kinds.Highlight, roles.strong),
        (kinds.HighlightedText, roles.on_strong),
        (kinds.Link, roles.accent),
        (kinds.Mid, roles.line),
        (kinds.Dark, roles.line),
        (kinds.Midlight, roles.line),
        (kinds.Light, roles.hover),
        (kinds.Accent, roles.accent),
    ):
        palette.setColor(kind, QColor(role))
    for kind in (kinds.WindowText, kinds.Text, kinds.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, kind, QColor(roles.faint))
    return palette


def style_sheet(roles: Roles) -> str:
    """The whole application's style sheet: every colour in it is a role."""
    values = {field: getattr(roles, field) for field in Roles.__slots__}
    sizes = {"chip": scaled(18), "item": scaled(28), "box": scaled(16), "slider": scaled(20)}
    return Template(_SHEET).substitute(values, radius=RADIUS, **sizes)


_SHEET = """
QMainWindow, #background { background: $background; }
QDialog { background: $panel; }
#panel { background: $panel; }
#zoomBar { background: $panel; border: 1px solid $line; border-radius: ${radius}px; }
QLabel { background: transparent; color: $text; }
QLabel[tone="dim"] { color: $dim; }
QLabel[tone="good"] { color: $good; }
QLabel[tone="warn"] { color: $warn; }
QLabel[tone="bad"] { color: $bad; }
QLabel[tone="accent"] { color: $accent; }
QLabel:disabled { color: $faint; }
QToolTip { background: $raised; color: $text; border: 1px solid $line; padding: 4px 8px; }

QScrollArea, QScrollArea > QWidget > QWidget#contents { background: transparent; border: none; }
QAbstractScrollArea { background: transparent; border: none; }
QScrollBar { background: transparent; }
QScrollBar:vertical { width: 8px; }
QScrollBar:horizontal { height: 8px; }
QScrollBar::handle { background: $line; border-radius: 4px; min-height: 24px; min-width: 24px; }
QScrollBar::handle:hover { background: $faint; }
QScrollBar::handle:disabled { background: transparent; }
QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page { background: none; border: none;
    width: 0; height: 0; }

QLineEdit, QPlainTextEdit, QTextEdit, QSpinBox, QDoubleSpinBox, QComboBox {
    background: $raised; color: $text; border: 1px solid $line; border-radius: ${radius}px; padding: 6px 10px;
    selection-background-color: $strong; selection-color: $on_strong; }
QPlainTextEdit, QTextEdit { padding: 6px 8px; }
SearchField { padding-left: 0; }
QLineEdit:hover, QPlainTextEdit:hover, QTextEdit:hover, QSpinBox:hover, QDoubleSpinBox:hover, QComboBox:hover {
    border-color: $faint; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus, QComboBox:focus,
QComboBox:on { border-color: $accent; }
QLineEdit:disabled, QPlainTextEdit:disabled, QSpinBox:disabled, QDoubleSpinBox:disabled {
    color: $faint; background: $panel; border-color: $line; }
QComboBox:disabled { color: $dim; background: $panel; border-color: $line; }
QLineEdit[wrong="true"], QSpinBox[wrong="true"], QPlainTextEdit[wrong="true"] { border-color: $bad; }
QDoubleSpinBox[bare="true"] { background: transparent; border: 1px solid transparent; border-radius: 4px;
    padding: 0 2px; }
QDoubleSpinBox[bare="true"]:hover { background: $raised; }
QDoubleSpinBox[bare="true"]:focus { border-color: $accent; background: $raised; }
QSpinBox::up-button, QSpinBox::down-button, QDoubleSpinBox::up-button, QDoubleSpinBox::down-button { width: 0;
    height: 0; border: none; }
QAbstractSpinBox QLineEdit, QAbstractSpinBox QLineEdit:focus, QAbstractSpinBox QLineEdit:hover, QComboBox QLineEdit {
    background: transparent; border: none; padding: 0 8px; border-radius: 0; }
QAbstractSpinBox[bare="true"] QLineEdit { padding: 0 3px; }
QListView, QTreeView, QTableView { background: $raised; color: $text; border: 1px solid $line; outline: 0;
    selection-background-color: $chosen; selection-color: $text; }
QWidget QListView, QWidget QTreeView, QWidget QTableView { background: transparent; border: none; }
QComboBox { padding-right: 4px; combobox-popup: 0; }
QDialogButtonBox { dialogbuttonbox-buttons-have-icons: 0; }
QComboBox::drop-down { border: none; width: 24px; }
QComboBox::down-arrow { image: none; width: 0; height: 0; }
QComboBox QAbstractItemView { background: $raised; color: $text; border: 1px solid $line; padding: 4px; outline: 0;
    selection-background-color: $chosen; selection-color: $text; }
QComboBox QAbstractItemView::item { min-height: ${item}px; padding: 0 8px; border-radius: 6px; }
QComboBox QAbstractItemView::item:hover, QComboBox QAbstractItemView::item:selected { background: $chosen;
    color: $text; }

QSlider { background: transparent; min-height: ${slider}px; }
QSlider::groove:horizontal { height: 4px; border-radius: 2px; background: $line; }
QSlider::sub-page:horizontal { height: 4px; border-radius: 2px; background: $accent; }
QSlider::handle:horizontal { width: 14px; height: 14px; margin: -6px 0; border-radius: 8px; background: $knob;
    border: 1px solid $edge; }
QSlider::handle:horizontal:hover { border-color: $accent; }
QSlider:focus { outline: none; }
QSlider::handle:horizontal:focus { border: 3px solid $accent; width: 12px; height: 12px; margin: -7px 0;
    border-radius: 9px; }
QSlider::sub-page:horizontal:disabled { background: $faint; }
QSlider::handle:horizontal:disabled { background: $faint; }

QPushButton, QToolButton { background: $raised; color: $text; border: 1px solid $line; border-radius: ${radius}px;
    padding: 6px 12px; }
QPushButton:hover, QToolButton:hover { background: $hover; }
QPushButton:pressed, QToolButton:pressed { background: $line; }
QPushButton:focus, QToolButton:focus { border-color: $accent; }
QPushButton:disabled, QToolButton:disabled { color: $faint; background: transparent; }
QFileDialog QToolButton { padding: 4px; }
QToolButton::menu-indicator, QPushButton::menu-indicator { image: none; width: 0; }
RailButton { background: transparent; color: $dim; border-color: transparent; padding: 6px 0; }
RailButton:hover { background: $panel; color: $text; }
RailButton:checked { background: $raised; color: $text; }
RailButton:focus { border-color: $accent; }
PrimaryButton { background: $strong; color: $on_strong; border: 1px solid $strong; padding: 8px 16px; }
PrimaryButton:hover { background: $strong_hover; border-color: $strong_hover; }
PrimaryButton:pressed { background: $strong_hover; border-color: $accent; }
PrimaryButton:focus { border: 1px solid $text; }
PrimaryButton:disabled { background: $raised; border-color: $line; color: $faint; }
QPushButton[flat="true"], QToolButton[flat="true"] { background: transparent; border-color: transparent; padding: 4px; }
QPushButton[flat="true"]:hover, QToolButton[flat="true"]:hover { background: $hover; }
QPushButton[flat="true"]:focus, QToolButton[flat="true"]:focus { border-color: $accent; }
Chip { border-radius: 13px; padding: 3px 11px; min-height: ${chip}px; color: $dim; background: $raised;
    border: 1px solid $line; }
Chip:hover { color: $text; }
AddButton[brief="true"] { padding-left: 4px; padding-right: 4px; }
Chip:checked { background: $chosen; color: $text; border-color: $accent; }
Chip:focus { border-color: $accent; }
Chip:checked:focus { border: 1px solid $text; }
Chip:disabled { color: $faint; background: transparent; }

Card, #card { background: $raised; border: 1px solid transparent; border-radius: ${radius}px; }
Card[chosen="true"] { border-color: $accent; }
Card[interactive="true"]:hover { background: $hover; }
Card[interactive="true"]:focus { border-color: $accent; }
Card[chosen="true"]:focus { border-color: $text; }
Banner { background: $raised; border: 1px solid $line; border-radius: ${radius}px; }
Banner[kind="bad"] { border-color: $bad; }
Banner[kind="warn"] { border-color: $warn; }
Banner[kind="good"] { border-color: $good; }
Banner[kind="info"] { border-color: $accent; }

QCheckBox { color: $text; spacing: 8px; }
QCheckBox::indicator, QRadioButton::indicator { width: ${box}px; height: ${box}px; border: 1px solid $edge; border-radius: 4px;
    background: $raised; }
QRadioButton::indicator { border-radius: 8px; }
QCheckBox::indicator:hover, QCheckBox::indicator:focus, QRadioButton::indicator:hover { border-color: $accent; }
QCheckBox::indicator:checked, QRadioButton::indicator:checked { background: $strong; border-color: $strong; }

QCheckBox::indicator:checked:focus, QRadioButton::indicator:checked:focus { border: 2px solid $text; }

QMenu { background: $raised; color: $text; border: 1px solid $line; padding: 4px; }
QMenu::item { padding: 6px 20px 6px 12px; border-radius: 6px; background: transparent; }
QMenu::item:selected { background: $chosen; }
QMenu::item:disabled { color: $faint; }
QMenu::separator { height: 1px; background: $line; margin: 4px 8px; }
QMenu::icon { padding-left: 8px; }

QTableView::item { padding: 2px 8px; }
QListView#raised { background: $raised; border: 1px solid $line; border-radius: ${radius}px; padding: 4px; }
QListView#raised:focus { border-color: $accent; }
QListView#raised::item { padding: 4px; }
QListView::item:selected { background: $chosen; color: $text; }
QListView::item { border-radius: 6px; }
QHeaderView::section { background: transparent; color: $dim; border: none; padding: 4px 11px; }
QSplitter::handle { background: transparent; }
#pill { background: $raised; border: 1px solid $line; border-radius: 12px; padding: 4px 12px; }
QProgressBar { background: $line; border: none; border-radius: 2px; max-height: 4px; text-align: center;
    color: transparent; }
QProgressBar::chunk { background: $accent; border-radius: 2px; }
"""
