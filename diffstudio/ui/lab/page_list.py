"""The pages of the Lab, in the order of the room."""

from __future__ import annotations

from diffstudio.ui.lab.page import AnyPage
from diffstudio.ui.lab.pages import (
    anomalies,
    attention,
    compare,
    evaluate,
    features,
    forward,
    image_map,
    latent_space,
    likelihood,
    noise_schedule,
    restore,
    reverse,
    synthesise,
)

PAGES: tuple[AnyPage, ...] = (
    evaluate.PAGE,
    compare.PAGE,
    anomalies.PAGE,
    synthesise.PAGE,
    likelihood.PAGE,
    restore.PAGE,
    forward.PAGE,
    reverse.PAGE,
    noise_schedule.PAGE,
    attention.PAGE,
    image_map.PAGE,
    features.PAGE,
    latent_space.PAGE,
)


def page_of(key: str) -> AnyPage | None:
    """The page of a verb or key; None for a page of a newer version."""
    return next((page for page in PAGES if page.key == key), None)


def title_of(key: str) -> str:
    page = page_of(key)
    return page.title if page is not None else key
