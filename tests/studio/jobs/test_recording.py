"""Recording: what of a job's estimates is kept."""

from __future__ import annotations

import pytest
import torch

from diffstudio.studio.jobs import recording
from diffstudio.studio.jobs.recording import Recording


def test_estimates_are_dropped_once_they_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LARGEST_RECORDING_BYTES", 100)
    kept = Recording()
    kept.begin(0, 1, 4)
    kept.add(torch.zeros(1, 1, 5, 5))
    assert kept.complete and len(kept.batches[0].estimates) == 1
    kept.add(torch.zeros(1))
    assert not kept.complete and kept.batches[0].estimates == []


def test_a_batch_that_is_begun_again_does_not_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LARGEST_RECORDING_BYTES", 100)
    kept = Recording()
    for _ in range(3):  # each attempt but the last ran out of memory
        kept.begin(0, 1, 4)
        kept.add(torch.zeros(1, 1, 5, 5))
    assert kept.complete and [len(batch.estimates) for batch in kept.batches] == [1]


def test_only_the_newest_batch_is_kept_once_all_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LARGEST_RECORDING_BYTES", 100)
    kept = Recording()
    for first in (0, 1, 2):
        kept.begin(first, 1, 2)
        kept.add(torch.full((1, 1, 4, 4), float(first)))  # 64 bytes
        kept.stepped(1, ())
    assert not kept.complete and [batch.complete for batch in kept.batches] == [False, False, True]
    assert [len(batch.estimates) for batch in kept.batches] == [0, 0, 1]
    assert kept.batches[-1].before(2)[0].mean() == 2 and kept.batches[-1].calls_after == [1]
