"""Indices that are evenly spaced, and as many as are asked for even where there are fewer."""

from __future__ import annotations

from diffstudio.evaluation.even_spacing import evenly_spaced, spread


def test_evenly_spaced_indices_cover_all_and_are_no_more_than_there_are() -> None:
    assert evenly_spaced(10, 5).tolist() == [0, 2, 4, 6, 8] and evenly_spaced(7, 3).tolist() == [0, 2, 4]
    assert evenly_spaced(3, 10).tolist() == [0, 1, 2] and evenly_spaced(0, 4).tolist() == []


def test_indices_are_repeated_where_more_are_asked_for_than_there_are() -> None:
    assert spread(3, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert spread(10, 5).tolist() == [0, 2, 4, 6, 8]
