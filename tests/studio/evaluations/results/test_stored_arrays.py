"""Arrays of files that somebody else wrote: no pickles, no more memory than allowed, and damage in a sentence."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffstudio.errors import RunProblem
from diffstudio.studio.evaluations.results.stored_arrays import read_arrays

MOST = 10_000


def npy(shape: tuple[int, ...], *, version: int = 1) -> bytes:
    """The header of an array of float32, without its values."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header


def packed(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps.npy", data)


def damaged_inside(path: Path) -> None:
    np.savez_compressed(path, maps=np.random.default_rng(0).random(1000))
    data = bytearray(path.read_bytes())
    data[200:260] = b"\xff" * 60
    path.write_bytes(data)


def encrypted(path: Path) -> None:
    packed(path, npy((1,)) + bytes(4))
    data = path.read_bytes()
    flags = {data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8}
    path.write_bytes(bytes(byte | 1 if place in flags else byte for place, byte in enumerate(data)))


def test_arrays_are_read(tmp_path: Path) -> None:
    one, other = np.arange(6).reshape(2, 3), np.array([0.5], np.float32)
    np.savez_compressed(tmp_path / "a.npz", one=one, other=other)
    found = read_arrays(tmp_path / "a.npz", ("other", "one"), MOST)
    assert found[0].tolist() == [0.5] and found[1].tolist() == one.tolist()
    packed(tmp_path / "b.npz", npy((2,), version=2) + np.array([1, 2], np.float32).tobytes())
    assert read_arrays(tmp_path / "b.npz", ("maps",), MOST)[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda path: packed(path, npy((10**6, 10**6))), "larger"),
        (lambda path: packed(path, npy((-1,))), "shape"),
        (lambda path: packed(path, npy((100,)) + bytes(8)), "cannot be read"),
        (lambda path: packed(path, npy((1,), version=9)), "version"),
        (lambda path: packed(path, b"\x93NUMPY\x01\x00\x10\x00" + b"{" * 16), "cannot be read"),
        (lambda path: packed(path, b"hello"), "cannot be read"),
        (lambda path: np.savez(path, maps=np.array([{}], object)), "object"),
        (lambda path: np.savez(path, maps=np.array(["a"])), "array of"),
        (lambda path: np.savez(path, others=np.zeros(2)), "maps.npy"),
        (lambda path: path.write_bytes(b""), "zip"),
        (lambda path: path.mkdir(), "directory"),
        (damaged_inside, "cannot be read"),
        (encrypted, "encrypted"),
        (lambda path: None, "no such file"),
    ],
)
def test_damage_is_a_sentence(write: Callable[[Path], object], why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(RunProblem, match=why) as raised:
        read_arrays(path, ("maps",), MOST)
    assert str(raised.value).endswith("Start the job again.") and "arrays in" in str(raised.value)


def test_all_arrays_together_are_limited(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, one=np.zeros(800), other=np.zeros(800))
    (tmp_path / "a.npz").write_bytes(file.getvalue())
    assert len(read_arrays(tmp_path / "a.npz", ("one",), MOST)[0]) == 800
    with pytest.raises(RunProblem, match="larger"):
        read_arrays(tmp_path / "a.npz", ("one", "other"), MOST)
