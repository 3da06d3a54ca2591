"""The steps of an image: taken out of a job's recording, written and read again, and damage that is noticed."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.errors import StorageProblem
from diffstudio.studio.events import Picture
from diffstudio.studio.jobs.image_steps import ImageSteps, StepsDamaged, read_steps, steps_of, write_steps
from diffstudio.studio.jobs.recording import Recording
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest

REQUEST = GenerateRequest("red apple", seed=7, count=3, steps=2)


def preview(level: int, side: int = 16) -> Picture:
    return np.full((side, side, 3), level, np.uint8)


def recorded(dtype: torch.dtype = torch.float32) -> Recording:
    """Of three images in batches of two and one, two network calls a step."""
    made, generator = Recording(), torch.Generator().manual_seed(1)
    for first, count in ((0, 2), (2, 1)):
        made.begin(first, count, 2)
        for step in (1, 2):
            for _ in range(2):
                made.add(torch.randn(count, 4, 3, 5, generator=generator).to(dtype))
            made.stepped(step, tuple(preview(100 * step + first + row) for row in range(count)))
    return made


def test_each_image_of_a_batch_has_its_own() -> None:
    made = recorded()
    steps = steps_of(made, REQUEST, 1)
    assert steps is not None and (steps.request.seed, steps.steps, steps.calls_after) == (8, 2, (2, 4))
    assert isinstance(steps.request, GenerateRequest) and steps.request.count == 1
    assert [None if shown is None else int(shown[0, 0, 0]) for shown in steps.previews] == [101, 201]
    for mine, whole in zip(steps.estimates, made.batches[0].estimates, strict=True):
        assert torch.equal(mine, whole[1])
    (batch,) = steps.recording().batches
    assert (batch.first, batch.count, batch.complete) == (0, 1, True)
    assert [tuple(each.shape) for each in batch.before(2)] == [(1, 4, 3, 5)] * 2
    last = steps_of(made, REQUEST, 2)
    assert last is not None and torch.equal(last.estimates[3], made.batches[1].estimates[3][0])


def test_nothing_is_made_up() -> None:
    assert steps_of(Recording(), REQUEST, 0) is None
    without_previews = Recording()
    without_previews.begin(0, 1, 1)
    without_previews.add(torch.zeros(1, 1, 1, 1))
    without_previews.stepped(1, ())
    assert steps_of(without_previews, REQUEST, 0) is None
    own_sampler = Recording()  # the model has its own sampler: there are previews and no estimates
    own_sampler.begin(0, 1, 1)
    own_sampler.stepped(1, (preview(1),))
    steps = steps_of(own_sampler, REQUEST, 0)
    assert steps is not None and steps.calls_after == () and not steps.recording().complete
    too_large = recorded()
    too_large.batches[0].drop()
    steps = steps_of(too_large, REQUEST, 0)
    assert steps is not None and steps.estimates == steps.calls_after == () and not steps.recording().complete


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_what_is_written_is_read_again_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    steps = steps_of(recorded(dtype), REQUEST, 1)
    assert steps is not None
    write_steps(tmp_path / "a.npz", steps)
    assert stat.S_IMODE((tmp_path / "a.npz").stat().st_mode) == 0o600
    again = read_steps(tmp_path / "a.npz", estimates=True)
    assert (again.request, again.steps, again.calls_after) == (steps.request, 2, (2, 4))
    for before, after in zip(steps.previews, again.previews, strict=True):
        assert before is not None and after is not None and np.array_equal(before, after)
    assert all(torch.equal(a.to(dtype), b) for a, b in zip(again.estimates, steps.estimates, strict=True))
    assert read_steps(tmp_path / "a.npz", estimates=False).estimates == ()


def test_large_previews_are_compressed_and_look_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    picture = np.repeat(np.repeat(ramp[None, :, None], 512, 0), 3, 2)
    request = UpscaleRequest(Path("a.png"), checkpoint="tiny")
    write_steps(tmp_path / "a.npz", ImageSteps(request, 3, (None, picture, None)))
    assert (tmp_path / "a.npz").stat().st_size < 60_000
    again = read_steps(tmp_path / "a.npz", estimates=True)
    assert again.previews[0] is None and len(again.previews) == 2 and again.request == request
    assert again.previews[1] is not None and np.abs(again.previews[1].astype(int) - picture).mean() < 2


def test_damage_is_named(tmp_path: Path) -> None:
    steps = steps_of(recorded(), REQUEST, 0)
    assert steps is not None
    path = tmp_path / "a.npz"
    write_steps(path, steps)
    whole = path.read_bytes()
    at = whole.index(steps.estimates[2].numpy().tobytes()[:16])
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for data in (b"", b"\0" * 100, whole[: len(whole) // 2], whole[:-10], flipped):
        path.write_bytes(data)
        with pytest.raises(StepsDamaged, match="The steps of this image cannot be read"):
            read_steps(path, estimates=True)
    path.write_bytes(flipped)  # the previews are whole
    assert len(read_steps(path, estimates=False).previews) == 2
    with pytest.raises(FileNotFoundError):
        read_steps(tmp_path / "gone.npz", estimates=False)


def webp(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "WEBP")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "2"},
        {"format": 0},
        {"steps": 0},
        {"steps": True},
        {"steps": 10**9},
        {"request": None},
        {"request": {"kind": "train"}},
        {"calls_after": [5]},
        {"calls_after": ["1"]},
        {"previews": []},
        {"previews": [b"no image"]},
        {"previews": [webp(2000)]},
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    previews = change.pop("previews", [webp(8)])
    about = {"format": 1, "request": REQUEST.to_json(), "steps": 2, "calls_after": []} | change
    arrays = {f"preview-{number:04}": np.frombuffer(data, np.uint8) for number, data in enumerate(previews, 1)}
    np.savez(tmp_path / "a.npz", about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    with pytest.raises(StepsDamaged, match="cannot be read: "):
        read_steps(tmp_path / "a.npz", estimates=False)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", about=np.array([{"format": 1}], dtype=object))
    with pytest.raises(StorageProblem, match="Python objects"):
        read_steps(tmp_path / "a.npz", estimates=False)


def written(path: Path) -> bytes:
    steps = steps_of(recorded(), REQUEST, 0)
    assert steps is not None
    write_steps(path, steps)
    return path.read_bytes()


def test_a_file_of_a_newer_program_is_not_damaged(tmp_path: Path) -> None:
    about = np.frombuffer(json.dumps({"format": 2}).encode(), np.uint8)
    np.savez(tmp_path / "a.npz", about=about)
    with pytest.raises(StorageProblem, match="it has format 2, .* Update the program") as raised:
        read_steps(tmp_path / "a.npz", estimates=False)
    assert type(raised.value) is StorageProblem


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), PermissionError(13, "in use"), OSError(5, "read error"), MemoryError()],
)
@pytest.mark.parametrize("where", ["open", "read"])
def test_what_keeps_a_file_from_being_read_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    written(tmp_path / "a.npz")

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "open", fail) if where == "open" else (zipfile.ZipFile, "open", fail)))
        with pytest.raises(StorageProblem, match="The steps of this image cannot be read") as raised:
            read_steps(tmp_path / "a.npz", estimates=True)
    assert type(raised.value) is StorageProblem
    assert read_steps(tmp_path / "a.npz", estimates=True).steps == 2


def npy(header: str, data: bytes = b"") -> bytes:
    """An array in NumPy's format 1.0 with any header."""
    encoded = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + data


def bytes_npy(data: bytes) -> bytes:
    return npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(data)},), }}", data)


def large_canvas(kind: bytes) -> bytes:
    """A WebP whose header claims 16383 px a side."""
    if kind == b"VP8 ":
        chunk = b"\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(8)
    elif kind == b"VP8L":
        chunk = b"\x2f" + ((16382 | 16382 << 14).to_bytes(4, "little")) + bytes(8)
    else:
        chunk = b"\0\0\0\0" + (16382).to_bytes(3, "little") * 2
    body = b"WEBP" + kind + len(chunk).to_bytes(4, "little") + chunk
    return b"RIFF" + len(body).to_bytes(4, "little") + body


ABOUT = json.dumps({"format": 1, "request": REQUEST.to_json(), "steps": 2, "calls_after": []}).encode()


@pytest.mark.parametrize(
    "arrays",
    [
        {"about": bytes_npy(b"[" * 100_000)},  # RecursionError
        {"about": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)")},  # tokenize.TokenError
        {"about": npy("(" * 9000)},
        {"about": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }")},
        {"about": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }")},
        {"about": b"\x93NUMPY\x09\x00"},
        {"about": bytes_npy(b"[]")},
        {"about": bytes_npy(ABOUT.replace(b'"format": 1', b'"format": ' + b"9" * 5000))},
        {"about": bytes_npy(ABOUT), "preview-0001": bytes_npy(large_canvas(b"VP8 "))},
        {"about": bytes_npy(ABOUT), "preview-0001": bytes_npy(large_canvas(b"VP8L"))},
        {"about": bytes_npy(ABOUT), "preview-0001": bytes_npy(large_canvas(b"VP8X"))},
        {"about": bytes_npy(ABOUT), "preview-0001": bytes_npy(webp(8)[:40])},
        {},
    ],
)
def test_hostile_content_is_damage(tmp_path: Path, arrays: dict[str, bytes]) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    with pytest.raises(StepsDamaged, match="The steps of this image cannot be read"):
        read_steps(tmp_path / "a.npz", estimates=True)


def test_a_canvas_that_is_too_large_is_not_given_to_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", None)
    for kind in (b"VP8 ", b"VP8L", b"VP8X"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("about.npy", bytes_npy(ABOUT))
            archive.writestr("preview-0001.npy", bytes_npy(large_canvas(kind)))
        with pytest.raises(StepsDamaged, match="too large" if kind != b"VP8X" else "without extensions"):
            read_steps(tmp_path / "a.npz", estimates=False)


def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused_before(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", bytes_npy(ABOUT))
        archive.writestr("estimate-0001.npy", bytes(1 << 20))
    with pytest.raises(StepsDamaged, match="it is compressed"):
        read_steps(path, estimates=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.npy", bytes_npy(ABOUT))
        archive.writestr("preview-0001.npy", bytes_npy(webp(8)))
        archive.filelist *= 40  # forty entries for the same bytes
    with pytest.raises(StepsDamaged, match="its arrays are too large"):
        read_steps(path, estimates=True)


def test_damage_anywhere_in_the_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    whole = written(path)
    generator = np.random.default_rng(1)
    for at in generator.integers(0, len(whole), 300):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ int(generator.integers(1, 256))]) + whole[at + 1 :])
        try:
            read_steps(path, estimates=True)
        except StepsDamaged:
            continue
        except StorageProblem as error:
            assert "it has format" in str(error)
