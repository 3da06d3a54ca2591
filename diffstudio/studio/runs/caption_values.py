"""Edits captions in a JSON object or table row in place: a text, tags, or a text with tags."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

from diffstudio.training.data.captions.caption_files import TAG_KEYS, TEXT_KEYS, captions_in

Parts = list[str]  # of a caption, between commas


def set_captions(values: MutableMapping[str, object], texts: Sequence[str]) -> bool:
    """Set the keys that captions are read from, so that reading gives `texts`; False, without changes, if impossible.

    A caption combined from a text and tags is split again: former tags and everything after them are tags, and the rest
    before them is the text. Other keys are kept.
    """
    text_key, tag_key, inner = _sources(values)
    candidates: list[dict[str, object]] = []
    if inner:
        nested = values[inner]
        assert isinstance(nested, Mapping)
        changed = dict(nested)
        candidates = [{inner: changed}] if set_captions(changed, texts) else []
    elif tag_key and text_key:
        candidates = _text_and_tags(values, text_key, tag_key, texts)
    elif tag_key:
        joined = [part for text in texts for part in _parts(text)] if len(texts) <= 1 else None
        candidates = [] if joined is None else [{tag_key: _as_tags(values[tag_key], tag_key, joined)}]
    elif text_key:
        candidates = [{text_key: _as_text(values[text_key], texts)}]
    for candidate in candidates:
        if captions_in({**values, **candidate}).texts == tuple(texts):
            values.update(candidate)
            return True
    return False


def _sources(values: Mapping[str, object]) -> tuple[str, str, str]:
    """The keys of the text, of the tags, and of the object that holds them; empty if they were not found."""
    source = captions_in(values).source
    names, _, inner = source.partition(" in ")
    words = names.removeprefix("keys ").removeprefix("key ").split(" and ")
    found = {str(key).strip().casefold(): key for key in values}  # the last one is the one that is read
    if inner:
        return "", "", found[inner]
    text = next((found[word] for word in words if word in TEXT_KEYS), "")
    tags = next((found[word] for word in words if word in TAG_KEYS), "")
    return text, tags, ""


def _text_and_tags(
    values: Mapping[str, object], text_key: str, tag_key: str, texts: Sequence[str]
) -> list[dict[str, object]]:
    """The ways to split captions into texts and the tags that all of them share, the least change first."""
    known = {tag.casefold() for text in captions_in({tag_key: values[tag_key]}).texts for tag in _parts(text)}
    before = {text.rstrip(". ") for text in captions_in({text_key: values[text_key]}).texts}
    divided = [_divided(text, before, known) for text in texts]
    ways: list[dict[str, object]] = []
    if divided and all(tags == divided[0][1] for _, tags in divided):
        leading = [text for text, _ in divided]
        tags = _as_tags(values[tag_key], tag_key, divided[0][1])
        ways.append({text_key: _as_text(values[text_key], leading), tag_key: tags})
    ways.append({text_key: _as_text(values[text_key], texts), tag_key: _as_tags(values[tag_key], tag_key, [])})
    return ways


def _divided(text: str, before: set[str], known: set[str]) -> tuple[str, Parts]:
    """A caption split into text and tags: after a text that it had before, or else at the first part that was a tag."""
    for start in sorted(before, key=len, reverse=True):
        if start and (text == start or text.startswith(f"{start},")):
            return start, _parts(text[len(start) :])
    parts = _parts(text)
    first = next((index for index, part in enumerate(parts) if part.casefold() in known), len(parts))
    return ", ".join(parts[:first]), parts[first:]


def _parts(text: str) -> Parts:
    return [part for part in map(str.strip, text.split(",")) if part]


def _as_text(before: object, texts: Sequence[str]) -> object:
    return list(texts) if isinstance(before, list) else "\n".join(texts)


def _as_tags(before: object, key: str, tags: Parts) -> object:
    """Tags in their previous form: a list, an object with probabilities (1 for new tags), or text."""
    if isinstance(before, list):
        return tags
    if isinstance(before, dict):
        return {tag: before.get(tag, 1.0) for tag in tags}
    if key.strip().casefold() == "tag_string":
        return " ".join(tag.replace(" ", "_") for tag in tags)
    return ", ".join(tags)
