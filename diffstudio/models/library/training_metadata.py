"""What a file's metadata says about its training: trigger words, tags of the training images, base model. No torch.

Keys are those of ModelSpec (https://github.com/Stability-AI/ModelSpec) and kohya's sd-scripts, which start with `ss_`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

_LONGEST_JSON = 4 << 20
_MOST_TAGS = 10_000
_MOST_WORDS = 50  # that an author may declare
_MOST_SUGGESTED = 12


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The trigger words that its author declared, else those in kohya's folder names: `<repeats>_<trigger word>`."""
    if declared := _declared_words(metadata):
        return declared
    names = (folder.partition("_")[2].strip() for folder in _frequencies(metadata))
    return tuple(dict.fromkeys(name[:200] for name in names if name))[:10]


def suggested_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Words that a prompt for this model may start with: the declared trigger words, else its most frequent tags."""
    return (_declared_words(metadata) or tuple(tag for tag, _ in training_tags(metadata)))[:_MOST_SUGGESTED]


def _declared_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Trigger words as the author names them: separated by commas, or a JSON list of strings."""
    text = metadata.get("modelspec.trigger_phrase") or metadata.get("ss_trigger_words") or ""
    words = (word.strip()[:200] for word in text.strip().strip("[]").replace('"', "").split(","))
    return tuple(dict.fromkeys(word for word in words if word))[:_MOST_WORDS]


def training_tags(metadata: Mapping[str, str]) -> list[tuple[str, int]]:
    """The tags of its training images and how often each occurs, most frequent first."""
    count: dict[str, int] = {}
    for tags in _frequencies(metadata).values():
        for tag, times in tags.items():
            count[tag] = count.get(tag, 0) + times
    return sorted(count.items(), key=lambda entry: (-entry[1], entry[0]))


def base_model(metadata: Mapping[str, str]) -> str:
    """The base model as the file names it: `sd_v1`, `sdxl_base_v1-0`; empty if it does not."""
    return (
        metadata.get("ss_base_model_version")
        or metadata.get("modelspec.architecture")
        or metadata.get("ss_sd_model_name")
        or ""
    )[:100]


def _frequencies(metadata: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """kohya's tag counts by training folder; empty if they are missing or malformed."""
    text = metadata.get("ss_tag_frequency", "")
    if not text or len(text) > _LONGEST_JSON:
        return {}
    try:
        frequencies = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    folders = frequencies.items() if isinstance(frequencies, dict) else ()
    return {
        folder: {
            tag.strip()[:200]: times
            for tag, times in list(tags.items())[:_MOST_TAGS]
            if type(times) is int and times > 0 and tag.strip()
        }
        for folder, tags in folders
        if isinstance(tags, dict)
    }
