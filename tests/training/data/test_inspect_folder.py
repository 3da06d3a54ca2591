"""What a folder holds: everything found, everything that cannot be used named, nothing believed unseen."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import FolderProblem
from diffstudio.imaging.value_range import SampleType
from diffstudio.training.data import inspect_folder as inspection
from diffstudio.training.data.caption_files import MAX_CAPTION_BYTES
from diffstudio.training.data.folder_report import FolderReport, InspectionProgress
from diffstudio.training.data.inspect_folder import inspect_folder, map_in_threads


def noise(seed: int, width: int = 40, height: int = 40, mode: str = "RGB") -> Image.Image:
    """Blocks of random colours: no two seeds look alike, and shrinking leaves them so."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 8, len(mode)), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def put(path: Path, seed: int, caption: str | bytes | None = None, **picture: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed, **picture).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_bytes(caption.encode() if isinstance(caption, str) else caption)
    return path


def report_of(folder: Path) -> FolderReport:
    *progress, report = inspect_folder(folder)
    assert all(isinstance(step, InspectionProgress) for step in progress)
    assert isinstance(report, FolderReport)
    return report


def test_groups_captions_and_sizes(tmp_path: Path) -> None:
    put(tmp_path / "loose.png", 0)
    put(tmp_path / "cats" / "a.jpg", 1, "tabby, striped", width=60, height=30)
    put(tmp_path / "cats" / "deeper" / "b.webp", 2, "black cat\n\n  asleep ")
    put(tmp_path / "dogs" / "c.png", 3, "")
    (tmp_path / "notes.txt").write_text("not a caption")
    report = report_of(tmp_path)
    assert [(p.path.as_posix(), p.width, p.height, p.caption, p.group) for p in report.images] == [
        ("cats/a.jpg", 60, 30, "tabby, striped", "cats"),
        ("cats/deeper/b.webp", 40, 40, "black cat asleep", "cats"),
        ("dogs/c.png", 40, 40, None, "dogs"),
        ("loose.png", 40, 40, None, ""),
    ]
    assert report.groups == {"": 1, "cats": 2, "dogs": 1}
    assert report.captioned == 2
    assert report.skipped == report.duplicates == report.too_small == report.caption_problems == ()
    assert report.sentence() == "4 images · 30 to 40 px · captions for 2 · 3 groups"
    assert report.smaller_than(64) == 4
    assert report.smaller_than(60) == 3


def test_the_sentence_for_a_plain_folder(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path / f"{seed}.png", seed, f"thing {seed}")
    assert report_of(tmp_path).sentence() == "3 images · 40 px · captions for all"


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        ("Ein rüstiger Löwe".encode(), "Ein rüstiger Löwe"),
        ("\ufeffwith a mark".encode(), "with a mark"),
        ("赤いリンゴ, تفاحة حمراء, 🍎".encode(), "赤いリンゴ, تفاحة حمراء, 🍎"),
        ("Notepad's Unicode, żółw".encode("utf-16"), "Notepad's Unicode, żółw"),
        (b"one\r\n two\t three ", "one two three"),
    ],
)
def test_captions_in_any_script(tmp_path: Path, content: bytes, caption: str) -> None:
    put(tmp_path / "a.png", 0, content)
    report = report_of(tmp_path)
    assert report.images[0].caption == caption
    assert report.caption_problems == ()


@pytest.mark.parametrize("content", [b"caf\xe9 in Latin-1", b"\x00\x01\x02\x03", b"\xff\xfe\x00"])
def test_a_caption_that_is_not_text_is_named_and_the_picture_kept(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "a.png", 0, content)
    report = report_of(tmp_path)
    assert report.images[0].caption is None
    (problem,) = report.caption_problems
    assert problem.path == Path("a.txt")
    assert "text" in problem.why


def test_a_huge_caption_is_cut_between_characters_and_named(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0, "x" + "ж" * MAX_CAPTION_BYTES)
    report = report_of(tmp_path)
    assert report.images[0].caption == "x" + "ж" * ((MAX_CAPTION_BYTES - 1) // 2)
    assert "64 KiB" in report.caption_problems[0].why


def test_other_ways_to_name_a_caption(tmp_path: Path) -> None:
    put(tmp_path / "a.PNG", 0)
    (tmp_path / "A.TXT").write_text("shouted")
    put(tmp_path / "b.png", 1)
    (tmp_path / "b.png.txt").write_text("after the whole name")
    assert [picture.caption for picture in report_of(tmp_path).images] == ["shouted", "after the whole name"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders, and seldom links")
def test_hostile_neighbours_do_not_cost_the_good_pictures(tmp_path: Path) -> None:
    put(tmp_path / "good" / "a.png", 0, "fine")
    whole = put(tmp_path / "good" / "half.png", 1).read_bytes()
    (tmp_path / "good" / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / ".hidden.png").write_text("not looked at")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    os.symlink(tmp_path, tmp_path / "good" / "back-up")
    os.symlink("itself.png", tmp_path / "itself.png")
    os.symlink("nowhere", tmp_path / "lost.png")
    os.mkfifo(tmp_path / "good" / "a-pipe.jpg")
    put(tmp_path / "good" / "b.png", 2)
    os.mkfifo(tmp_path / "good" / "b.txt")
    report = report_of(tmp_path)
    assert [picture.path.as_posix() for picture in report.images] == ["good/a.png", "good/b.png"]
    assert [problem.why for problem in report.caption_problems] == ["it is not a plain file"]
    assert report.too_small == (Path("one.png"),)
    assert {skipped.path.as_posix() for skipped in report.skipped} == {
        "good/half.png",
        "empty.png",
        "text.png",
        "itself.png",
        "lost.png",
        "good/a-pipe.jpg",
    }
    assert all(skipped.why and not skipped.why.endswith(".") for skipped in report.skipped)
    assert "6 cannot be read" in report.sentence()
    assert "1 too small" in report.sentence()


def test_a_linked_folder_is_entered_once(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "a.png", 0)
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    os.symlink(tmp_path / "elsewhere", chosen / "first")
    os.symlink(tmp_path / "elsewhere", chosen / "second")
    assert len(report_of(chosen).images) == 1


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "open" / "a.png", 0)
    put(tmp_path / "locked" / "b.png", 1)
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(inspection.os, "scandir", scandir)
    report = report_of(tmp_path)
    assert len(report.images) == 1
    assert (report.skipped[0].path, report.skipped[0].why) == (
        Path("locked"),
        "the folder cannot be read (permission denied)",
    )


@pytest.mark.parametrize("kind", ["none", "file", "empty", "texts", "nested empties", "one pixel", "all broken"])
def test_folders_with_nothing_to_train_on(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "chosen"
    if kind == "file":
        folder.write_text("hello")
    elif kind != "none":
        folder.mkdir()
    if kind == "texts":
        for number in range(3):
            (folder / f"{number}.txt").write_text("a caption without a picture")
    elif kind == "nested empties":
        (folder / "a" / "b").mkdir(parents=True)
    elif kind == "one pixel":
        Image.new("RGB", (1, 1)).save(folder / "a.png")
    elif kind == "all broken":
        (folder / "a.png").write_text("hello")
    reason = {
        "none": "does not exist",
        "file": "a file, not a folder",
        "empty": "is empty",
        "texts": "3 files (3 .txt) but no",
        "nested empties": "no files",
        "one pixel": "smaller than 16 px",
        "all broken": "a.png: it is not an image",
    }
    with pytest.raises(FolderProblem) as problem:
        list(inspect_folder(folder))
    assert reason[kind] in problem.value.why
    assert problem.value.remedy
    assert problem.value.exit_code == 2


def test_duplicates_are_told_exact_and_near(tmp_path: Path) -> None:
    original = put(tmp_path / "a.png", 0, width=128, height=128)
    (tmp_path / "b-copy.png").write_bytes(original.read_bytes())
    noise(0, 128, 128).save(tmp_path / "c-again.jpg", quality=90)
    noise(0, 100, 100).save(tmp_path / "d-smaller.png")
    for seed in range(1, 12):
        put(tmp_path / f"other-{seed:02}.png", seed, width=128, height=128)
    report = report_of(tmp_path)
    assert report.duplicates == ((Path("a.png"), Path("b-copy.png")),)
    assert report.near_duplicates == ((Path("a.png"), Path("c-again.jpg")), (Path("a.png"), Path("d-smaller.png")))
    assert len(report.images) == 15
    assert "1 duplicate" in report.sentence()


def test_flat_pictures_of_different_colours_are_not_alike(tmp_path: Path) -> None:
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (200, 200, 0), (0, 0, 0)]):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    report = report_of(tmp_path)
    assert report.duplicates == report.near_duplicates == ()


def test_transparency_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0, mode="RGBA")
    put(tmp_path / "b.png", 1)
    assert [picture.has_alpha for picture in report_of(tmp_path).images] == [True, False]


def test_progress_begins_at_once_and_comes_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "PROGRESS_SECONDS", 0.0)
    for seed in range(9):
        put(tmp_path / f"{seed}.png", seed)
    *progress, _ = inspect_folder(tmp_path)
    assert [step.done for step in progress if step.total] == list(range(10))
    assert [step.total for step in progress[:9]] == [0] * 9


def test_closing_the_inspection_ends_its_threads(tmp_path: Path) -> None:
    for seed in range(40):
        put(tmp_path / f"{seed:02}.png", seed)
    looking = inspect_folder(tmp_path)
    next(step for step in looking if step.total)
    looking.close()  # the fixture on threads fails this test where one is left


def test_work_is_done_in_order_and_only_a_little_ahead() -> None:
    begun: list[int] = []

    def slow_at_first(number: int) -> int:
        begun.append(number)
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    results = map_in_threads(slow_at_first, range(100), threads=2)
    assert [next(results) for _ in range(10)] == [number * number for number in range(10)]
    assert len(begun) <= 10 + 8
    assert list(results) == [number * number for number in range(10, 100)]


def test_a_picture_that_goes_away_while_looking_is_named(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path / f"{seed}.png", seed)
    looking = inspect_folder(tmp_path)
    next(step for step in looking if step.total)  # counted, and none read yet: the threads start with the next step
    (tmp_path / "1.png").unlink()
    *_, report = looking
    assert [picture.path.name for picture in report.images] == ["0.png", "2.png"]
    assert report.skipped[0].why == "the file does not exist"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets file names be any bytes")
def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0)
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff\xfe.png")
    assert len(report_of(tmp_path).images) == 1


def test_inspecting_and_preparing_need_no_torch(tmp_path: Path) -> None:
    put(tmp_path / "pictures" / "a.png", 0)
    program = (
        "import sys; from pathlib import Path\n"
        "from diffstudio.training.data.inspect_folder import inspect_folder\n"
        "from diffstudio.training.data.dataset import build_dataset\n"
        "from diffstudio.training.recipe import DataRecipe\n"
        "folder = Path(sys.argv[1])\n"
        "*_, report = inspect_folder(folder)\n"
        "assert len(build_dataset(report, DataRecipe(size=16), folder / 'cache')) == 1\n"
        "print('torch' in sys.modules, 'PySide6' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("False False", "")


def test_deep_images_share_one_range_and_notes_name_what_could_not_be_followed(tmp_path: Path) -> None:
    for number, largest in enumerate((900, 4000)):
        pixels = np.linspace(0, largest, 400).reshape(20, 20)
        Image.fromarray(pixels.astype(np.uint16)).save(tmp_path / f"{number}.png")
        Image.fromarray((pixels - 1024).astype(np.float32)).save(tmp_path / f"{number}.tiff")
    noise(1).save(tmp_path / "plain.png")
    frames = [noise(2), noise(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    noise(4).save(tmp_path / "print.jpg", icc_profile=b"broken")
    report = report_of(tmp_path)
    assert report.value_ranges == {SampleType.UINT16: (0, 4095), SampleType.FLOAT: (-1024, 2976)}
    assert [found.sentence() for found in report.ranges] == [
        "2 images with floating-point values: -1,024 becomes black and 2,976 white",
        "2 images with 16-bit values: 0 becomes black and 4,095 white",
    ]
    assert report.ranges[1].paths == (Path("0.png"), Path("1.png"))
    assert [(note.path.name, note.why) for note in report.notes] == [
        ("film.gif", "only its first frame is used"),
        ("print.jpg", "its colour profile is damaged and was not used"),
    ]


def test_bombs_and_heic_in_a_folder_are_named_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG that claims 13,000 × 13,000 px is refused by its header: its few bytes would else be called truncated."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    noise(1).save(tmp_path / "good.png")
    plain = (tmp_path / "good.png").read_bytes()
    header = b"IHDR" + struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    for number in range(4):
        (tmp_path / f"bomb{number}.png").write_bytes(
            plain[:12] + header + struct.pack(">I", zlib.crc32(header)) + plain[33:]
        )
    (tmp_path / "IMG_1.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".ljust(64, b"\0"))
    report = report_of(tmp_path)
    assert [image.path.name for image in report.images] == ["good.png"]
    reasons = {skipped.path.name: skipped.why for skipped in report.skipped}
    assert all(reasons[f"bomb{number}.png"].startswith("at 13,000 × 13,000 px") for number in range(4))
    assert "-m pip install pillow-heif" in reasons["IMG_1.heic"]
