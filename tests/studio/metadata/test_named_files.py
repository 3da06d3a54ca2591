"""No path is written into an image: files are named, with their SHA-256, and found again by it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffstudio import paths
from diffstudio.errors import CheckpointMissing
from diffstudio.studio.metadata import metadata, named_files
from diffstudio.studio.metadata.image_text import read_text
from diffstudio.studio.metadata.named_files import (
    NamedFile,
    find_near,
    has_lost_files,
    located,
    model_name,
    needed_files,
)
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, PictureRequest, UpscaleRequest

pytestmark = pytest.mark.usefixtures("home")


def image_at(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "home" / "mallory"


def requests_of(folder: Path) -> list[PictureRequest]:
    """One of every kind, each file below `folder`."""
    photo, mask, lines = (image_at(folder / f"{name}.png", name) for name in ("red", "white", "black"))
    model = folder / "models" / "sharp.safetensors"
    model.parent.mkdir(exist_ok=True)
    model.write_bytes(b"weights")
    weights, lora = str(model), f"<lora:{folder}/models/ink.safetensors:0.8>"
    prompt = {"prompt": f"a cat {lora}", "negative": f"blur {lora}"}
    every = {"checkpoint": weights, "vae": weights, **prompt}
    use = ControlNetUse(weights, lines)
    return [
        GenerateRequest(**every, init=photo, strength=0.5),
        GenerateRequest(**every, init=photo, mask=mask),
        GenerateRequest(**every, controls=(use, replace(use, network="canny"))),
        GenerateRequest(**every, enlarge=2.0, upscaler=weights, autoguidance=weights),
        UpscaleRequest(photo, upscaler=weights),
        UpscaleRequest(photo, upscaler=weights, **every),
    ]


def write(path: Path, request: PictureRequest, **about: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (8, 8))
    image.save(path, pnginfo=metadata.write(image, request, about))
    return path


@pytest.mark.parametrize("kind", range(6))
def test_no_image_holds_the_path_of_what_it_was_made_from(private: Path, tmp_path: Path, kind: int) -> None:
    request = requests_of(private)[kind]
    loras = [{"name": f"{private}/models/ink.safetensors", "hash": "ab"}, {"name": "water", "hash": "cd"}]
    file = write(tmp_path / "out" / "a.png", request, prompt=request.prompt, loras=loras, model="sharp")
    assert str(private).encode() not in file.read_bytes() and b"mallory" not in file.read_bytes()
    read = metadata.read(file)
    assert read.not_imported == () and read.request.prompt in ("", "a cat <lora:ink:0.8>")
    without_prompts = {"prompt": "", "negative": ""}
    assert replace(read.request, **without_prompts) == replace(request, **without_prompts), "found where it was used"


def test_the_format_is_the_documented_one(private: Path, tmp_path: Path) -> None:
    request = requests_of(private)[1]
    photo = private / "red.png"
    values = json.loads(read_text(write(tmp_path / "a.png", request)).texts["diffstudio"])
    assert values["init"] == {"name": "red.png", "sha256": sha256(photo), "size": photo.stat().st_size}
    assert (values["checkpoint"], values["vae"]) == ("sharp", "sharp")
    assert values["models"] == {"sharp": hashlib.sha256(b"weights").hexdigest()}
    again = json.loads(
        read_text(write(tmp_path / "b.png", metadata.read(tmp_path / "a.png").request)).texts["diffstudio"]
    )
    assert again["init"] == values["init"]


def test_a_request_read_elsewhere_keeps_what_it_needs(private: Path, tmp_path: Path) -> None:
    painted, controlled, upscaled = (requests_of(private)[kind] for kind in (1, 2, 4))
    files = [write(tmp_path / f"{kind}.png", each) for kind, each in enumerate((painted, controlled, upscaled))]
    expected = [NamedFile("red.png", sha256(private / "red.png"), (private / "red.png").stat().st_size)]
    (private / "red.png").rename(private / "moved.png")
    (private / "white.png").unlink()
    image_at(private / "black.png", "blue")  # another image of the same name
    (private / "models" / "sharp.safetensors").unlink()
    first, second, third = (metadata.read(file).request for file in files)
    assert needed_files(first) == ("init image red.png", "mask white.png")
    assert needed_files(second) == ("control image black.png", "control image black.png")
    assert needed_files(third) == ("source image red.png",)
    assert (first.checkpoint, first.vae) == ("sharp", "sharp")
    assert isinstance(first, GenerateRequest) and first.init is not None and NamedFile.of(first.init) == expected[0]
    assert GenerateRequest.from_json(first.to_json()) == first, "as the databases store it"
    assert write(tmp_path / "again.png", first).is_file()
    assert needed_files(metadata.read(tmp_path / "again.png").request) == needed_files(first)
    found = located(third, lambda named: private / "moved.png" if named == expected[0] else None)
    assert isinstance(found, UpscaleRequest) and found.source == private / "moved.png" and not needed_files(found)
    (tmp_path / "red.png").write_bytes((private / "moved.png").read_bytes())
    beside = metadata.read(files[2]).request
    assert isinstance(beside, UpscaleRequest) and beside.source == tmp_path / "red.png"


def test_a_painted_mask_is_found_where_masks_are_kept(tmp_path: Path) -> None:
    mask = image_at(paths.data() / "masks" / "0123.png", "white")
    named = NamedFile("0123.png", sha256(mask), mask.stat().st_size)
    assert find_near(named) == mask
    assert find_near(replace(named, sha256="0" * 64)) is None
    assert find_near(replace(named, sha256="")) is None
    assert find_near(NamedFile("gone.png", sha256(mask), 1), [tmp_path]) is None


def test_images_of_version_0_1_keep_their_paths(tmp_path: Path) -> None:
    request = requests_of(tmp_path)[1]
    values = json.dumps(request.to_json() | {"image": {"index": 0}})
    image, texts = Image.new("RGB", (8, 8)), metadata.PngInfo()
    texts.add_text("diffstudio", values)
    image.save(tmp_path / "old.png", pnginfo=texts)
    assert metadata.read(tmp_path / "old.png").request == request and needed_files(request) == ()


def test_what_could_not_be_read_is_named_without_a_hash(private: Path, tmp_path: Path) -> None:
    request = GenerateRequest(init=private / "gone.png", checkpoint=str(private / "gone.ckpt"), vae=str(private))
    values = json.loads(read_text(write(tmp_path / "a.png", request)).texts["diffstudio"])
    assert values["init"] == {"name": "gone.png", "sha256": "", "size": 0}
    assert values["models"] == {"gone": "", "mallory": ""}
    read = metadata.read(tmp_path / "a.png").request
    assert needed_files(read) == ("init image gone.png",) and (read.checkpoint, read.vae) == ("gone", "mallory")
    bare = GenerateRequest(init=Path("gone.png"))
    assert metadata.read(write(tmp_path / "b.png", bare)).request == bare


def test_a_model_that_cannot_be_read_has_no_hash(
    private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise CheckpointMissing(f"{path} cannot be read")

    request = requests_of(private)[1]
    monkeypatch.setattr(named_files, "sha256_of", refuse)
    values = json.loads(read_text(write(tmp_path / "a.png", request)).texts["diffstudio"])
    assert values["models"] == {"sharp": ""} and values["init"]["sha256"] == ""


@pytest.mark.parametrize(
    ("value", "needed"),
    [
        ({"name": "../../etc/passwd", "sha256": "a" * 64, "size": 3}, ("init image passwd",)),
        ({"name": "C:\\Users\\ann\\b.png"}, ("init image b.png",)),
        ({"name": "//server/share/b.png", "sha256": "zz", "size": -1}, ("init image b.png",)),
        ({"name": "b.png", "sha256": ["a"], "size": True}, ("init image b.png",)),
        ({"name": "b.png", "size": 10**30}, ("init image b.png",)),
        ({"name": ".."}, ()),
        ({"name": 5}, ()),
        ({}, ()),
        (["b.png"], ()),
    ],
)
def test_a_hostile_file_of_settings_opens_nothing(value: object, needed: tuple[str, ...], tmp_path: Path) -> None:
    texts = metadata.PngInfo()
    values = {
        "format": 1,
        "kind": "generate",
        "init": value,
        "models": [],
        "controls": [5, {"network": "canny", "image": value}],
    }
    texts.add_text("diffstudio", json.dumps(values))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    read = metadata.read(tmp_path / "a.png")
    assert [file for file in needed_files(read.request) if file.startswith("init")] == list(needed)
    assert bool(needed) != any(phrase.startswith("the init") for phrase in read.not_imported)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("starter", "starter"),
        ("sub/starter", "sub/starter"),
        ("/models/one.safetensors", "one"),
        ("/models/one.v2", "one.v2"),
        ("/models/folder/", "folder"),
        ("C:\\models\\one.ckpt", "one"),
        ("~/one.GGUF", "one"),
        ("./one.safetensors", "one"),
        ("a/\0b", "a/\0b"),
        (f"a/{'x' * 5000}", f"a/{'x' * 5000}"),
    ],
)
def test_the_name_of_a_model(given: str, name: str) -> None:
    assert model_name(given) == name


def test_a_relative_path_of_a_file_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_at(tmp_path / "sub" / "one.safetensors.png").parents[1])
    (tmp_path / "sub" / "one.safetensors").write_bytes(b"")
    assert model_name("sub/one.safetensors") == "one"


def test_a_file_that_is_gone_is_noticed(tmp_path: Path) -> None:
    image = tmp_path / "red.png"
    request = GenerateRequest(init=image)
    assert has_lost_files(request) and not has_lost_files(GenerateRequest())
    image.write_bytes(b"")
    assert not has_lost_files(request)
    assert not has_lost_files(GenerateRequest(init=NamedFile("red.png", "0" * 64, 3).as_path()))
