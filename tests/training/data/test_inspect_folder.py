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
from diffstudio.training.data.captions.caption_files import MAX_CAPTION_BYTES
from diffstudio.training.data.folder_report import (
    MAX_FINDINGS,
    Finding,
    FolderReport,
    ImageRecord,
    InspectionProgress,
    Skipped,
)
from diffstudio.training.data.inspect_folder import inspect_folder, map_in_threads
from diffstudio.training.data.left_out import left_out_file, write_left_out


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
    loose = tmp_path.name
    assert [(p.path.as_posix(), p.width, p.height, p.captions, p.group) for p in report.images] == [
        ("cats/a.jpg", 60, 30, ("tabby, striped",), "cats"),
        ("cats/deeper/b.webp", 40, 40, ("black cat", "asleep"), "cats"),
        ("dogs/c.png", 40, 40, (), "dogs"),
        ("loose.png", 40, 40, (), loose),
    ]
    assert report.groups == {loose: 1, "cats": 2, "dogs": 1}
    assert report.layout_notes == (f"Images beside the class folders are the class {loose}",)
    assert report.captioned == 2
    assert report.skipped == report.duplicates == report.too_small == ()
    assert [(one.path.as_posix(), one.why) for one in report.caption_problems] == [
        ("dogs/c.txt", "it is empty"),
        ("notes.txt", "no image beside it has its name"),
    ]
    assert report.sentence() == "4 images · 30 to 40 px · captions for 2 · 3 classes"
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
        (b" two\t three ", "two three"),
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
    assert progress[0].total == 0


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
        "from diffstudio.training.recipe.data_recipe import DataRecipe\n"
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


def test_splits_are_kept_apart_and_a_class_that_is_only_held_out_is_named(tmp_path: Path) -> None:
    for seed, name in enumerate(("train/cat/a", "train/dog/b", "val/cat/c", "val/dog/d", "val/emu/e")):
        put(tmp_path / f"{name}.png", seed)
    report = report_of(tmp_path)
    assert [(image.path.as_posix(), image.group, image.split) for image in report.images] == [
        ("train/cat/a.png", "cat", "training"),
        ("train/dog/b.png", "dog", "training"),
        ("val/cat/c.png", "cat", "held out"),
        ("val/dog/d.png", "dog", "held out"),
    ]
    assert report.groups == {"cat": 1, "dog": 1}
    assert [(one.path.as_posix(), one.why) for one in report.left_out] == [
        ("val/emu/e.png", "no image to train on has its class, emu")
    ]
    assert "2 held out by the folder" in report.sentence()


def test_images_on_both_sides_of_a_split_are_said(tmp_path: Path) -> None:
    put(tmp_path / "train" / "a.png", 0)
    put(tmp_path / "train" / "b.png", 1)
    put(tmp_path / "val" / "c.png", 0)
    assert any("1 image, such as val/c.png" in note for note in report_of(tmp_path).layout_notes)


def test_kohyas_folder_name_is_the_caption_of_images_without_one(tmp_path: Path) -> None:
    put(tmp_path / "10_sks dog" / "a.png", 0)
    put(tmp_path / "10_sks dog" / "b.png", 1, "a dog on grass")
    put(tmp_path / "10_sks dog" / "c.png", 2, "")
    report = report_of(tmp_path)
    assert [image.caption for image in report.images] == ["sks dog", "a dog on grass", None]
    assert report.groups == {"sks dog": 3}
    assert report.caption_sources == {"names of folders": 1, ".txt files": 1}


def test_captions_from_everywhere_and_which_was_used(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0, "from text")
    (tmp_path / "a.caption").write_text("not this")
    put(tmp_path / "b.png", 1)
    (tmp_path / "b.json").write_text('{"prompt": "from json"}')
    put(tmp_path / "sub" / "caf\u00e9.png", 2)
    (tmp_path / "sub" / "metadata.jsonl").write_text(
        '{"file_name": "cafe\u0301.png", "text": "from a table"}\n{"file_name": "gone.png", "text": "x"}\n'
        '{"file_name": "../../x.png", "text": "x"}\n{"file_name": "broken.png", "text": "x"}\n'
    )
    (tmp_path / "sub" / "broken.png").write_text("not an image")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,nor this\n")
    report = report_of(tmp_path)
    assert [image.caption for image in report.images] == ["from text", "from json", "from a table"]
    assert report.caption_sources == {".txt files": 1, ".json files, key prompt": 1, "metadata.jsonl, key text": 1}
    assert {(one.path.as_posix(), one.why) for one in report.caption_problems} == {
        ("a.caption", "another file has the caption of its image"),
        ("a.png", "a caption file is used, not metadata.csv"),
        ("sub/gone.png", "named in metadata.jsonl, but there is no such image"),
        ("../../x.png", "metadata.jsonl names a file outside the folder"),
    }


def test_a_caption_beyond_what_any_network_reads_is_said(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0, "word " * 129)
    put(tmp_path / "b.png", 1, "word " * 128)
    assert [one.path.name for one in report_of(tmp_path).caption_problems] == ["a.png"]


def test_formats_that_only_their_content_shows(tmp_path: Path) -> None:
    """JPEG XL and HEIC beside JPEG, and names that the web gives."""
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.asarray(noise(0, 32, 24))
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels))
    (tmp_path / "b.jpg_large").write_bytes(imagecodecs.jpegxl_encode(np.asarray(noise(1))))
    noise(2).save(tmp_path / "c.jpg_large", "JPEG")
    noise(3).save(tmp_path / "d", "WEBP")
    names = ["a.jxl", "b.jpg_large", "c.jpg_large", "d"]
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
        noise(4).save(tmp_path / "e.heic")
        names.append("e.heic")
    report = report_of(tmp_path)
    assert [image.path.name for image in report.images] == names
    assert not report.skipped


def test_everything_that_is_left_out_is_grouped_and_counted(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0)
    put(tmp_path / "b.png", 0)
    put(tmp_path / "@eaDir" / "a.png", 0)
    for number in range(7):
        (tmp_path / f"{number}.jpg").write_text("not an image")
    Image.new("RGB", (3, 3)).save(tmp_path / "tiny.png")
    (tmp_path / "old.zip").touch()
    (tmp_path / "notes.md").touch()
    (tmp_path / "captions.csv").touch()
    report = report_of(tmp_path)
    assert [(finding.kind, finding.why, len(finding.paths)) for finding in report.findings()] == [
        ("left out", "it is not an image in a supported format", 7),
        ("left out", "too small to train on", 1),
        ("left out", "kept there by another program", 1),
        ("left out", "archives are not opened; unpack it", 1),
        ("caption", "only metadata.csv and metadata.jsonl are read as tables", 1),
        ("duplicate", "the same pixels as another image", 1),
    ]
    lines = list(report.lines())
    assert (
        "7 files left out: it is not an image in a supported format (0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more)"
        in lines
    )
    assert "1 image kept: the same pixels as another image (b.png)" in lines
    assert lines[-1] == "1 file is not an image: 1 .md"
    values = report.to_json()
    assert values["other_files"] == {".md": 1}
    assert sum(finding["count"] for finding in values["findings"]) == 12


def test_files_that_the_recipe_cannot_use_are_findings_and_of_many_reasons_the_first_are_shown() -> None:
    report = FolderReport(Path("p"), (ImageRecord(Path("a.png"), 20, 20, (), "", False),))
    unfit = [Skipped(Path(f"{number}.png"), f"reason {number}") for number in range(MAX_FINDINGS + 3)]
    lines = list(report.lines(unfit))
    assert "1 file left out: reason 0 (0.png)" in lines
    assert lines[-1] == "3 more files with 3 other reasons"
    assert len(report.to_json(unfit)["findings"]) == len(unfit)


def test_an_image_that_is_all_transparent_is_used_with_a_warning(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (40, 40), (9, 9, 9, 1)).save(tmp_path / "faint.png")
    report = report_of(tmp_path)
    assert report.notes == (Skipped(Path("clear.png"), "all of it is transparent"),)


def test_held_out_images_in_no_class_folder_are_named(tmp_path: Path) -> None:
    for number, name in enumerate(("train/cat/a.png", "train/dog/b.png", "test/c.png", "test/owl/d.png")):
        put(tmp_path / name, number)
    assert report_of(tmp_path).left_out == (
        Skipped(Path("test/c.png"), "it is in no class folder"),
        Skipped(Path("test/owl/d.png"), "no image to train on has its class, owl"),
    )


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ((".hidden/a.png",), "what it has is not looked at (.hidden: hidden files"),
        (("a.zip", "b.tar"), "none of its 2 files can be used (a.zip: archives are not opened"),
        (("captions.csv",), "it has 1 file (1 .csv) but no images"),
    ],
)
def test_a_folder_without_images_says_what_it_has(tmp_path: Path, names: tuple[str, ...], why: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(FolderProblem) as raised:
        report_of(tmp_path)
    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({"cat": 30, "dog": 3}, "Images in each class: cat 30, dog 3; cat has 10 times as many as dog"),
        ({"cat": 5000, "dog": 3}, "Images in each class: cat 5,000, dog 3; cat has 1,667 times as many as dog"),
        ({"cat": 5, "dog": 2}, "Images in each class: cat 5, dog 2; cat has 2.5 times as many as dog"),
        ({"cat": 4, "dog": 3}, "Images in each class: cat 4, dog 3"),
        ({f"{number:03}": 1 for number in range(300)}, "Each of the 300 classes has 1 image"),
        ({"": 5}, ""),
    ],
)
def test_the_balance_of_classes(counts: dict[str, int], sentence: str) -> None:
    assert FolderReport(Path("p"), (), groups=counts).balance_sentence() == sentence


def test_a_path_of_any_length_is_shortened_in_text() -> None:
    (line,) = (finding.sentence() for finding in [Finding("left out", "so", (Path("x" * 5000),))])
    assert len(line) < 200 and "…" in line


def test_one_flat_image_and_six_equal_ones(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "0.png")
    assert report_of(tmp_path).sentence() == "1 image · 40 px · no captions"
    for number in range(1, 6):
        Image.new("RGB", (40, 40), "red").save(tmp_path / f"{number}.png")
    report = report_of(tmp_path)
    assert report.sentence() == "6 images · 40 px · no captions · 5 duplicates"
    assert len(report.duplicates) == 5 and {first for first, _ in report.duplicates} == {Path("0.png")}


def test_what_the_user_left_out_is_not_inspected_and_a_damaged_choice_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for number in range(3):
        put(folder / f"{number}.png", number)
    write_left_out(folder, [Path("1.png")])
    report = report_of(folder)
    assert [image.path.name for image in report.images] == ["0.png", "2.png"]
    assert [(one.path.name, one.why) for one in report.left_out] == [("1.png", "left out in the Train room")]
    left_out_file(folder).write_text("damaged")
    report = report_of(folder)
    assert len(report.images) == 3 and "cannot be read" in report.layout_notes[0]
