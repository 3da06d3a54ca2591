"""What a file's metadata says of its training: the words that call it up, the tags of its pictures, its base. No torch.

Keys: ModelSpec (https://github.com/Stability-AI/ModelSpec) and those that kohya's sd-scripts write, all beginning with `ss_`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

_LONGEST_JSON = 4 << 20
_MOST_TAGS = 10_000


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """As its makers name them; or the name of its folder of pictures, as kohya's `10_name` is meant."""
    said = metadata.get("modelspec.trigger_phrase") or metadata.get("ss_trigger_words") or ""
    if said.strip():
        return tuple(dict.fromkeys(word.strip()[:200] for word in said.split(",") if word.strip()))[:50]
    names = (folder.partition("_")[2].strip() for folder in _frequencies(metadata))
    return tuple(dict.fromkeys(name[:200] for name in names if name))[:10]


def training_tags(metadata: Mapping[str, str]) -> list[tuple[str, int]]:
    """The tags of the pictures it was trained on, with how often each was there: most often first."""
    count: dict[str, int] = {}
    for tags in _frequencies(metadata).values():
        for tag, times in tags.items():
            count[tag] = count.get(tag, 0) + times
    return sorted(count.items(), key=lambda entry: (-entry[1], entry[0]))


def base_model(metadata: Mapping[str, str]) -> str:
    """What it was trained from, in its file's own words: `sd_v1`, `sdxl_base_v1-0`; empty where that is not said."""
    return (
        metadata.get("ss_base_model_version")
        or metadata.get("modelspec.architecture")
        or metadata.get("ss_sd_model_name")
        or ""
    )[:100]


def _frequencies(metadata: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """kohya's tags of each folder; nothing where they are not what they should be."""
    text = metadata.get("ss_tag_frequency", "")
    if not text or len(text) > _LONGEST_JSON:
        return {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    folders = told.items() if isinstance(told, dict) else ()
    return {
        folder: {
            tag.strip()[:200]: times
            for tag, times in list(tags.items())[:_MOST_TAGS]
            if type(times) is int and times > 0 and tag.strip()
        }
        for folder, tags in folders
        if isinstance(tags, dict)
    }
