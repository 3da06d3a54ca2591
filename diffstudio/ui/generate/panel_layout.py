"""The widgets of the Generate panel and where they are: every section, top to bottom, and the button below them."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.generate.guidance.guidance_section import GuidanceSection
from diffstudio.ui.generate.sections.add_buttons import AddButtons
from diffstudio.ui.generate.sections.checkpoint_chooser import CheckpointChooser
from diffstudio.ui.generate.sections.controlnet_section import ControlNetSection
from diffstudio.ui.generate.sections.edition_question import EditionQuestion
from diffstudio.ui.generate.sections.hires_section import HiresSection
from diffstudio.ui.generate.sections.init_image_section import InitImageSection
from diffstudio.ui.generate.sections.loaded_settings import LoadedLine
from diffstudio.ui.generate.sections.lora_section import LoraSection
from diffstudio.ui.generate.sections.prompt import PromptEdit
from diffstudio.ui.generate.sections.sampling_section import SamplingSection
from diffstudio.ui.generate.sections.seed import SeedControl
from diffstudio.ui.generate.sections.settings_bar import SettingsBar
from diffstudio.ui.generate.sections.size import SizeControl
from diffstudio.ui.widgets import actions, shortcuts, terms, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, label, scroll_area
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

MAX_IMAGES = 64  # of one request


class PanelLayout(QFrame):
    """Holds the sections of the panel."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setProperty("side", "left")
        self.settings_bar = SettingsBar()
        self.checkpoint = CheckpointChooser()
        self.loaded_line = LoadedLine()
        self.show_loaded = self.loaded_line.show_loaded
        self.edition_question = EditionQuestion()
        self.prompt = PromptEdit(
            terms.PROMPT,
            "Describe the image…",
            "What the image shows. Up recalls earlier prompts (Alt+Up when there is text); Ctrl+Enter generates",
            3,
            history=True,
        )
        self.history = SecondaryButton("", "clock-counter-clockwise", "Earlier prompts", role="dim")
        self.negative = PromptEdit(terms.NEGATIVE_PROMPT, "Negative prompt…", "What the image should not show", 1)
        self.unprompted = label("This checkpoint is unconditional: it takes no prompt.", "dim", wrap=True)
        self.classes = LabelledComboBox(
            "Class", (), "What the image shows: one of the classes this checkpoint was trained on"
        )
        self.init_image = InitImageSection()
        self.size_control, self._size_heading = SizeControl(), SectionLabel(terms.SIZE)
        self.loras = LoraSection(self.prompt, self.negative)
        self.controlnets = ControlNetSection(self.size_to_make, self.init_image.resize_of_request)
        self.hires_fix = HiresSection(self.size_to_make)
        self.sampling, self.guidance = SamplingSection(), GuidanceSection()
        self.prompt_hint = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.prompt_hint.hide()
        self.seed = SeedControl()
        self.count = LabelledSlider(
            "Images", 1, MAX_IMAGES, 1, tooltip="Batch: how many images to generate. Each uses the next seed"
        )
        self.memory_label = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.memory_label.hide()
        self.error_label = label("", "bad", pixels=theme.SMALL_PIXELS, wrap=True)
        self.button = PrimaryButton(
            "Generate", shortcuts.native_text(shortcuts.GENERATE.sequences()[0]), "Generate (Ctrl+Enter)"
        )
        self.edit_label = label("", "accent", pixels=theme.SMALL_PIXELS, wrap=True)
        self.edit_label.hide()
        self.cancel_edit = SecondaryButton(actions.CANCEL_EDIT, "", actions.CANCEL_EDIT_TIP)
        self.cancel_edit.hide()
        self._lay_out()

    def size_to_make(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.size_control.generated_size() or (512, 512)

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16 - SCROLL_BAR_WIDTH, 8)
        column.setSpacing(12)
        self.prompt_section = QWidget()
        heading = QHBoxLayout(self.prompt_section)
        heading.setContentsMargins(0, 0, 0, 0)
        heading.addWidget(SectionLabel(terms.PROMPT), 1)
        heading.addWidget(self.history)
        column.addWidget(self.settings_bar)
        column.addWidget(self.checkpoint)
        column.addWidget(self.edition_question)
        column.addWidget(self.loaded_line)
        column.addWidget(self.prompt_section)
        column.setSpacing(8)
        column.addWidget(self.unprompted)
        column.addWidget(self.prompt)
        column.addWidget(self.prompt_hint)
        column.addWidget(self.negative)
        column.addWidget(self.classes)
        self.add_buttons = AddButtons(
            (self.loras.add_button, self.init_image.choose_button, self.controlnets.add_button)
        )
        column.addWidget(self.add_buttons)
        column.addWidget(self.loras)
        column.addWidget(self.init_image)
        column.addWidget(self.controlnets)
        column.addSpacing(4)
        column.addWidget(SectionLabel("Image"))
        column.addWidget(self.sampling)
        column.addWidget(self.guidance)
        column.addSpacing(4)
        column.addWidget(self.seed)
        column.addSpacing(4)
        column.addWidget(self.count)
        column.addSpacing(4)
        column.addWidget(self._size_heading)
        column.addWidget(self.size_control)
        column.addWidget(self.hires_fix)
        column.addStretch(1)
        scroll = self._scroll = scroll_area(contents)
        foot = QVBoxLayout()
        foot.setContentsMargins(16, 8, 16, 16)
        foot.setSpacing(8)
        foot.addWidget(self.error_label)
        foot.addWidget(self.memory_label)
        foot.addWidget(self.edit_label)
        foot.addWidget(self.cancel_edit)
        foot.addWidget(self.button)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scroll, 1)
        whole.addLayout(foot)
        self.classes.hide()
        self.unprompted.hide()
