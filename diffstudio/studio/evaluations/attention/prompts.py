"""The words of a prompt in each step, and prompts with one word masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffstudio.errors import BadRequest
from diffstudio.models.conditioning.prompt_schedule import PromptBatch
from diffstudio.models.inspection.recording import StepWords
from diffstudio.models.model import EncodedPrompt, Model
from diffstudio.studio.prompts.lora_tags import lora_tags
from diffstudio.studio.prompts.wildcards import is_template

_Key = tuple[int, str, int]  # number of the subprompt, the word, and its number among equal words


@dataclass(frozen=True, slots=True)
class KnownWord:
    """A word that the prompt has in at least one step."""

    text: str
    tokens: int
    weight: float


@dataclass(frozen=True, slots=True)
class PromptWords:
    """All words of a prompt, and the words of each step."""

    words: tuple[KnownWord, ...]
    steps: tuple[StepWords, ...]
    cut: tuple[str, ...]  # words beyond the length of the text encoder

    def masking(self, word: int) -> list[list[tuple[int, ...]]]:
        """The tokens of one word for each step and subprompt: [steps][subprompts]."""
        return [
            [
                tuple(token for number, tokens in words if number == word for token in tokens)
                for words in step.subprompts
            ]
            for step in self.steps
        ]


def check_prompt(prompt: str) -> None:
    """BadRequest for LoRA tags and wildcards, which only the Generate room resolves."""
    if lora_tags(prompt)[1] or is_template(prompt):
        raise BadRequest(
            "LoRA tags and wildcards cannot be used here",
            "the prompt is passed to the network as it is",
            "Write the prompt without them",
        )


def words_of(model: Model, prompt: str, negative: str, steps: int) -> PromptWords:
    """The words of a prompt in this model's grammar. BadRequest if no step has a word."""
    batch = PromptBatch([prompt], [negative], model.prompt_features)
    numbers: dict[_Key, int] = {}
    words: list[KnownWord] = []
    cut: dict[str, None] = {}
    found: dict[tuple[tuple[str, ...], ...], StepWords] = {}
    by_step = []
    for step in range(1, steps + 1):
        texts = batch.at(step, steps)
        if texts.positive not in found:
            subprompts = []
            for number, ((text,), (weight,)) in enumerate(zip(texts.positive, texts.weights, strict=True)):
                held: list[tuple[int, tuple[int, ...]]] = []
                counts: dict[str, int] = {}
                for word in model.prompt_words(text):
                    counts[word.text] = counts.get(word.text, 0) + 1
                    key = (number, word.text, counts[word.text])
                    if not word.tokens:
                        cut[word.text] = None
                        continue
                    if key not in numbers:
                        numbers[key] = len(words)
                        words.append(KnownWord(word.text, len(word.tokens), word.weight * weight))
                    held.append((numbers[key], word.tokens))
                subprompts.append(tuple(held))
            found[texts.positive] = StepWords(tuple(subprompts))
        by_step.append(found[texts.positive])
    if not words:
        raise BadRequest("The prompt has no words", "it has only punctuation", "Write words into the prompt")
    return PromptWords(tuple(words), tuple(by_step), tuple(cut))


class MaskedPrompt(EncodedPrompt):
    """An encoded prompt with one of its words masked in every step."""

    __slots__ = ("_masking", "_model", "_prompt")

    def __init__(self, model: Model, prompt: EncodedPrompt, masking: Sequence[Sequence[Sequence[int]]]) -> None:
        self._model, self._prompt, self._masking = model, prompt, masking

    def at_steps(self, steps: int, steps_before: int | None = None) -> Sequence[EncodedPrompt]:
        masked: Mapping[int, EncodedPrompt] = {}
        found = []
        for prompt, tokens in zip(self._prompt.at_steps(steps, steps_before), self._masking, strict=True):
            if id(prompt) not in masked:
                masked = {**masked, id(prompt): self._model.masked(prompt, tokens)}
            found.append(masked[id(prompt)])
        return found
