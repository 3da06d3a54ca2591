"""The result of `attention`: settings, files and the deletion test. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.evaluation.attention.deletion import CLEAR, REGION_SHARE, DeletionTest
from diffstudio.studio.evaluations.results.stored import typed_result
from diffstudio.studio.evaluations.results.text import aligned, number

FORMAT = 1
METHODS = {
    "weights": "Maps are attention weights from image tokens to the tokens of a word, summed over its tokens and averaged "
    "over heads (DAAM, arXiv 2210.04885).",
    "outputs": "Maps are dot products of the attention outputs of image tokens and the tokens of a word "
    "(ConceptAttention, arXiv 2502.04320).",
}
HOW_TO_READ = (
    "A word acts most where its map is bright. Each map is scaled on its own, so the brightness of two words cannot be "
    "compared. A map shows where the network attends, which does not prove that the word causes what is there. The deletion "
    "test therefore masks the tokens of each word and generates the image again. The ratio is the change inside the "
    f"brightest {REGION_SHARE:.0%} of the word's map divided by the change outside. The test holds if the ratio is above 1 "
    "and above the mean of the same region at all other places, and clearly if it is above that of "
    f"{CLEAR:.0%} of them. In an image of a single object all words share a region, and the test means little."
)


@dataclass(frozen=True, slots=True)
class FollowedWord:
    """One word of the prompt, with its files and its deletion test."""

    text: str
    tokens: int  # number of tokens
    weight: float = 1.0  # from prompt weighting and AND
    overlay: str = ""  # files in the folder of the result
    masked: str = ""
    test: DeletionTest | None = None  # None for words that were not masked


@dataclass(frozen=True, slots=True)
class AttentionResult:
    checkpoint: str
    prompt: str
    maps: str  # `weights` or `outputs`
    settings: Mapping[str, object]
    words: Sequence[FollowedWord]
    layers: Sequence[str]
    times: Sequence[float]  # noise level at the start of each step, as a share of the schedule's largest
    picture: str  # files in the folder of the result
    arrays: str
    seconds: float  # time for the image with the maps
    notes: Sequence[str] = ()
    format: int = field(default=FORMAT)

    @property
    def problem(self) -> DiffstudioError | None:
        return None

    @property
    def verdict(self) -> str:
        """A sentence about the deletion test."""
        tested = [word for word in self.words if word.test is not None]
        if not tested:
            return "No word was masked, so there is no evidence for the maps."
        held = [word.text for word in tested if word.test is not None and word.test.holds]
        clear = sum(word.test is not None and word.test.is_clear for word in tested)
        verdict = f"The deletion test holds for {len(held)} of {len(tested)} masked words, clearly for {clear}."
        failed = [word.text for word in tested if word.test is not None and not word.test.holds]
        return f"{verdict} Do not trust the map of: {', '.join(failed)}." if failed else verdict

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AttentionResult:
        """The inverse of `to_json`. KeyError, TypeError, ValueError or RunProblem for invalid values."""
        return typed_result(cls, values, FORMAT)

    def text(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        rows = [("word", "tokens", "weight", "ratio", "random", "other words")]
        rows += [
            (
                word.text,
                str(word.tokens),
                f"{word.weight:g}",
                number(word.test.ratio) if word.test is not None else "–",
                number(word.test.random) if word.test is not None else "–",
                number(word.test.others if word.test is not None and word.test.others is not None else math.nan),
            )
            for word in self.words
        ]
        lines = [f"{self.prompt} with {self.checkpoint}: {settings}", *aligned(rows), "", self.verdict]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", METHODS[self.maps], HOW_TO_READ])
