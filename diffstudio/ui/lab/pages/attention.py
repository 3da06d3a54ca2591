"""The page Attention: where the words of a prompt act in an image, by layer and step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.attention.request import MOST_WORDS
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.attention import AttentionView, read_attention
from diffstudio.ui.lab.fields import ChoiceField, NumberField
from diffstudio.ui.lab.form import LabForm
from diffstudio.ui.lab.options import seed_field, size_fields
from diffstudio.ui.lab.page import UNDERSTAND, LabPage
from diffstudio.ui.lab.results.result_view import HowToRead, ResultView, Sentences
from diffstudio.ui.lab.results.table_view import TableView
from diffstudio.ui.lab.results.word_maps import WordMapsView
from diffstudio.ui.lab.subjects_field import SubjectsField
from diffstudio.ui.lab.text_field import TextField
from diffstudio.ui.widgets.wrapping_text import WrappingText

MAPS = (
    ("auto", "Automatic: weights if available"),
    ("weights", "Attention weights (DAAM)"),
    ("outputs", "Attention outputs (ConceptAttention)"),
)


def read(job: JobFolder, values: Mapping[str, Any]) -> AttentionView:
    return read_attention(job, values)


def has_words(checkpoint: Checkpoint) -> bool:
    return (
        checkpoint.can_generate
        and checkpoint.conditioning is Conditioning.TEXT
        and checkpoint.family != "diffusers"
        and not FAMILIES[checkpoint.family].one_call
    )


class AttentionResultView(ResultView):
    """The image with the maps of its words; then the deletion test and how to read it."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = WrappingText("", "dim")
        self.summary.setAccessibleName("Settings of the image")
        self.maps = WordMapsView()
        self.verdict = Sentences("Verdict", "text")
        self.table, self.how, self.notes = TableView(), HowToRead(), Sentences("Notes", "warn")
        for part in (self.summary, self.maps, self.verdict, self.table, self.how, self.notes):
            self.column.addWidget(part)
        for source in (self.maps, self.table):
            source.message.connect(self.message)
        self.maps.menu_requested.connect(self.menu_requested)

    def show_result(self, result: AttentionView) -> None:
        self.summary.set_text(result.summary)
        self.maps.show_view(result)
        self.verdict.show_sentences([result.result.verdict])
        self.table.show_table(result.table)
        self.how.show_sentences([result.how_to_read])
        self.notes.show_sentences(result.result.notes)


def make_form() -> LabForm:
    checkpoint = SubjectsField(
        "Checkpoint",
        "Choose a checkpoint",
        tooltip="A checkpoint with text prompts",
        folders=False,
        most=1,
        none="No checkpoint fits",
    )
    prompt = TextField(
        "Prompt",
        "",
        "Write a prompt",
        tooltip="The prompt of the image; each of its words gets a map",
        dashed="--prompt",
    )
    negative = TextField(
        "Negative prompt", "--negative", tooltip="What the image is guided away from; its words get no maps"
    )
    steps = NumberField(
        "Steps",
        "--steps",
        0,
        150,
        automatic="Automatic",
        tooltip="Sampling steps; automatic: as the checkpoint recommends",
    )
    guidance = NumberField(
        "CFG scale",
        "--guidance",
        0,
        30,
        automatic="Automatic",
        step=0.5,
        decimals=1,
        tooltip="How closely the image follows the prompt; automatic: as the checkpoint recommends",
    )
    maps = ChoiceField(
        "Maps of", "--maps", MAPS, tooltip="The source of the maps; checkpoints trained here have both, others only one"
    )
    tested = NumberField(
        "Words to mask",
        "--test",
        0,
        MOST_WORDS,
        value=8,
        tooltip="Number of words that the deletion test masks one after the other; each takes as long as the image",
    )
    return LabForm(
        (
            ("Image", (checkpoint, prompt, negative)),
            ("Options", (seed_field(), steps, guidance, *size_fields(), maps, tested)),
        ),
        positional=(checkpoint, prompt),
        name=prompt.value,
    )


PAGE = LabPage(
    "attention",
    "Attention",
    "crosshair",
    "Shows where each word of a prompt acts in the image, by layer and step, and what changes when the word is masked.",
    "Map words",
    make_form,
    read,
    AttentionResultView,
    has_words,
    UNDERSTAND,
)
