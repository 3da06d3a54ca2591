"""The result of following a prompt's words: what was made, which files hold it, and the deletion test. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from diffstudio.errors import DiffstudioError
from diffstudio.evaluation.attention.deletion import CLEAR, REGION_SHARE, DeletionTest
from diffstudio.studio.evaluations.results.stored import known_fields
from diffstudio.studio.evaluations.results.text import aligned, number

FORMAT = 1
METHODS = {
    "weights": "Maps are attention weights from image tokens to the tokens of a word, summed over them and averaged over "
    "heads (DAAM, arXiv 2210.04885).",
    "outputs": "Maps are dot products of the attention outputs of image tokens and of the tokens of a word "
    "(ConceptAttention, arXiv 2502.04320).",
}
HOW_TO_READ = (
    "A bright place is one where the word acts most, compared with the rest of its own map: the brightness of two words "
    "says nothing about which is stronger. A map shows where the network looks, and not yet that the word makes what is "
    "seen there. So the deletion test masks the tokens of each word and draws the image again. The ratio is the change "
    f"inside the brightest {REGION_SHARE:.0%} of the word's map over the change outside. The test holds where it is above 1 "
    "and above the mean of the same region at all other places, and clearly where it is above that of "
    f"{CLEAR:.0%} of them. In an image of one object all words share a region, and the test says little."
)


@dataclass(frozen=True, slots=True)
class FollowedWord:
    """One word of the prompt and what masking it did."""

    text: str
    tokens: int  # how many tokens it is made of
    weight: float = 1.0  # of the prompt's grammar, and of AND
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
    times: Sequence[float]  # the noise level that each step begins at, as a share of the schedule's largest
    picture: str  # files in the folder of the result
    arrays: str
    seconds: float  # that the image took, with the maps
    notes: Sequence[str] = ()
    format: int = field(default=FORMAT)

    @property
    def problem(self) -> DiffstudioError | None:
        return None

    @property
    def verdict(self) -> str:
        """Of the deletion test, in a sentence."""
        tested = [word for word in self.words if word.test is not None]
        if not tested:
            return "No word was masked, so that the maps are without evidence."
        held = [word.text for word in tested if word.test is not None and word.test.holds]
        clear = sum(word.test is not None and word.test.is_clear for word in tested)
        verdict = f"The deletion test holds for {len(held)} of {len(tested)} masked words, clearly for {clear}."
        failed = [word.text for word in tested if word.test is not None and not word.test.holds]
        return f"{verdict} Do not trust the map of: {', '.join(failed)}." if failed else verdict

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AttentionResult:
        """What `to_json` gave. KeyError, TypeError, ValueError or RunProblem for anything else."""
        known = known_fields(cls, values, FORMAT, "The result")
        words = [
            FollowedWord(**{**word, "test": DeletionTest(**word["test"]) if word["test"] is not None else None})
            for word in known["words"]
        ]
        return cls(**{**known, "words": words})

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
