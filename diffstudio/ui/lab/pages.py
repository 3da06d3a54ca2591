"""The pages of the Lab, in the order of the room."""

from __future__ import annotations

from diffstudio.ui.lab import anomalies_page, compare_page, evaluate_page, likelihood_page, synthesise_page
from diffstudio.ui.lab.page import LabPage

PAGES: tuple[LabPage, ...] = (
    evaluate_page.PAGE,
    compare_page.PAGE,
    anomalies_page.PAGE,
    synthesise_page.PAGE,
    likelihood_page.PAGE,
)


def page_of(verb: str) -> LabPage | None:
    """The page of a verb; None for one of a newer version."""
    return next((page for page in PAGES if page.verb == verb), None)


def title_of(verb: str) -> str:
    page = page_of(verb)
    return page.title if page is not None else verb
