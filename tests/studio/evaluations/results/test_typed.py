"""Dataclasses from JSON: every type that results have, and the name of the field that does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest

from diffstudio.errors import UnexpectedValue
from diffstudio.studio.evaluations.results.typed import typed_fields


class Kind(StrEnum):
    CAT = "cat"


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    yes: bool
    kind: Kind
    inner: Inner | None
    several: Sequence[Inner]
    pair: tuple[int, ...]
    by_name: Mapping[str, int | str]
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()


VALUES: dict[str, Any] = {
    "name": "a",
    "count": 3,
    "yes": True,
    "kind": "cat",
    "inner": {"value": 2, "new": "ignored"},
    "several": [{"value": 0.5}],
    "pair": [1, 2],
    "by_name": {"x": 1, "y": "z"},
    "settings": {"any": [None]},
    "later": 1,
}


def test_every_type_is_built() -> None:
    found = typed_fields(Outer, VALUES)
    assert found == Outer(
        "a", 3, True, Kind.CAT, Inner(2.0), [Inner(0.5)], (1, 2), {"x": 1, "y": "z"}, {"any": [None]}, ()
    )
    assert isinstance(found.pair, tuple) and isinstance(found.inner, Inner) and isinstance(found.inner.value, float)
    assert typed_fields(Outer, VALUES | {"inner": None}).inner is None


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": 3}, "name is a number$"),
        ({"count": 3.5}, "count"),
        ({"count": True}, "count"),
        ({"count": 2**63}, "count"),
        ({"yes": 1}, "yes"),
        ({"kind": "dog"}, "kind has a value that"),
        ({"inner": 3}, "inner is not an object"),
        ({"inner": {}}, "inner.value"),
        ({"inner": {"value": "2"}}, "inner.value"),
        ({"inner": {"value": 10**400}}, "inner.value"),
        ({"several": {"value": 1}}, "several"),
        ({"several": [{"value": 1}, None]}, r"several\[1\]"),
        ({"by_name": {"x": []}}, "by_name.x is a list$"),
        ({"by_name": []}, "by_name"),
        ({"notes": "abc"}, "notes"),
    ],
)
def test_another_type_is_named(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(UnexpectedValue, match=where):
        typed_fields(Outer, VALUES | changes)


def test_missing_values_are_named() -> None:
    with pytest.raises(UnexpectedValue, match="name is missing"):
        typed_fields(Outer, {})
    with pytest.raises(UnexpectedValue, match="not an object"):
        typed_fields(Outer, [])  # type: ignore[arg-type]
