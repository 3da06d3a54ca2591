"""Between finding a model of any role in the library and using it, each file's header is read once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from diffusers import UNet2DConditionModel

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.conditioning.textual_inversion import TextualInversions
from diffstudio.models.files import gguf_header, header, pickle_scan, safetensors_header
from diffstudio.models.files import quantized_reader as rows
from diffstudio.models.files import weights_reader as weights
from diffstudio.models.library.library import Library
from diffstudio.models.library.overrides import Overrides
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.tools import convert
from diffstudio.models.upscalers import load_upscaler
from diffstudio.studio.generation.controlnets import load_controlnets
from diffstudio.studio.generation.loras import RequestLoras
from diffstudio.studio.generation.resolve import resolve
from diffstudio.studio.generation.textual_inversions import RequestTextualInversions, textual_inversion_files
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from tests.models import small
from tests.models.adapter_files import kohya, layers, random, write
from tests.models.conditioning.test_controlnet import lively
from tests.models.small_files import made, small_world
from tests.models.test_upscalers import dense
from tests.models.tiny import write_tiny_checkpoint


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


__all__ = ["small_world"]
CPU = torch.device("cpu")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file's header was read, by its path."""
    count: Counter[Path] = Counter()
    for name, real in (
        ("read_safetensors_header", safetensors_header.read_safetensors_header),
        ("read_gguf_header", gguf_header.read_gguf_header),
        ("scan_pickle", pickle_scan.scan_pickle),
    ):

        def counted(path: Path, real: Callable[[Path], object] = real) -> object:
            count[path] += 1
            return real(path)

        for module in (header, weights, rows):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counted)
    return count


def test_a_file_that_was_found_for_the_first_time(reads: Counter[Path]) -> None:
    cats = write_tiny_checkpoint(paths.checkpoints() / "cats.safetensors")
    dogs = write_tiny_checkpoint(paths.checkpoints() / "dogs.safetensors")
    library = Library()
    loading.load(library.find("cats"), CPU)
    assert reads[cats] == reads[dogs] == 1
    assert all(not checkpoint.headers for checkpoint in library.scan())  # a thousand of them would fill the memory
    reads.clear()
    loading.load(library.find("cats"), CPU)
    loading.load(library.find(dogs), CPU)
    assert reads == {cats: 1, dogs: 1}
    reads.clear()
    loading.load(Library().find("dogs"), CPU)  # the next start, which remembers both records
    assert reads == {dogs: 1}


def test_a_file_that_changed_after_it_was_found_is_read_again(reads: Counter[Path]) -> None:
    path = write_tiny_checkpoint(paths.checkpoints() / "cats.safetensors")
    found = Library().find("cats")
    write_tiny_checkpoint(path, width=32)
    known = header.Headers(found.headers)
    assert found.header is not None and known.of(path) != found.header
    assert known.of(path) is known.of(path) and reads[path] == 2


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "folder"])
def test_a_latent_model_in_one_file_or_in_a_folder(
    suffix: str, reads: Counter[Path], small_world: Callable[[str], Path]
) -> None:
    folder = small_world("sd1")
    if suffix == "folder":
        path = paths.checkpoints() / "small"
        path.parent.mkdir(parents=True)
        path.symlink_to(folder, target_is_directory=True)
    else:
        path = paths.checkpoints() / "small.safetensors"
        path.parent.mkdir(parents=True)
        made(convert.convert(read_checkpoint(folder), path))
        if suffix == "ckpt":
            from safetensors.torch import load_file

            torch.save({"state_dict": load_file(path)}, path.with_suffix(".ckpt"))
            path.unlink()
            path = path.with_suffix(".ckpt")
        Overrides().put(read_checkpoint(path), family="sd1")
    reads.clear()
    loading.load(Library().find("small"), CPU, torch.float32)
    assert reads and set(reads.values()) == {1}, reads


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2
@pytest.mark.filterwarnings("ignore:`Transformer2DModelOutput` is deprecated:FutureWarning")
def test_every_other_file_of_a_request(
    reads: Counter[Path], small_world: Callable[[str], Path], tmp_path: Path
) -> None:
    world, folder = small_world("sd1"), paths.checkpoints()
    folder.mkdir(parents=True)
    (folder / "small").symlink_to(world, target_is_directory=True)
    unet = UNet2DConditionModel.from_pretrained(world / "unet")
    files = {
        "vae": folder / "vae" / "soft.safetensors",
        "lora": write(folder / "loras" / "ink.safetensors", kohya("lora_unet", layers(unet, "to_q"))),
        "controlnet": folder / "controlnet" / "edges.safetensors",
        "upscaler": folder / "upscalers" / "sharp.safetensors",
    }
    copy(world / "vae" / "diffusion_pytorch_model.safetensors", files["vae"])
    write(files["upscaler"], dense().state_dict())
    lively(unet).save_pretrained(tmp_path / "controlnet")
    copy(tmp_path / "controlnet" / "diffusion_pytorch_model.safetensors", files["controlnet"])
    known = {str(folder / "small"): {"family": "sd1"}}  # they are narrower than real ones
    known |= {str(files[role]): {"family": "sd1", "role": role} for role in ("vae", "controlnet")}
    paths.overrides().write_text(json.dumps({"format": 1, "files": known}), encoding="utf-8")
    (tmp_path / "edges.png").write_bytes(b"")  # not read here
    request = GenerateRequest(
        prompt="<lora:ink>",
        checkpoint="small",
        vae="soft",
        controls=(ControlNetUse("edges", tmp_path / "edges.png"),),
        enlarge=2.0,
        upscaler="sharp",
    )
    Library().scan()  # an earlier start, which recorded them
    reads.clear()

    resolved = resolve(request, Library())
    assert resolved.checkpoint is not None and resolved.upscaler is not None
    model = loading.load(resolved.checkpoint, CPU, torch.float32, vae=resolved.vae)
    loras = RequestLoras(resolved.loras)
    assert not loras.attach(model, loras.read(request.prompt)[1])
    assert model.adapters is not None and [one.matched > 0 for one in model.adapters.attached] == [True]
    load_controlnets(resolved.controlnets, model)
    load_upscaler(resolved.upscaler, CPU)
    assert {role: reads[path] for role, path in files.items()} == dict.fromkeys(files, 1)


def test_an_embedding(reads: Counter[Path]) -> None:
    path = write(paths.checkpoints() / "embeddings" / "mine.safetensors", {"emb_params": random(2, 768)})
    inversions = TextualInversions({"text_encoder": small.small_clip(768, 1)})
    for _ in ("found for the first time", "recorded by an earlier start"):
        reads.clear()
        files = RequestTextualInversions(textual_inversion_files(Library()))
        assert not files.attach(cast(Model, SimpleNamespace(textual_inversions=inversions)), ["mine"])
        assert inversions.known == ("mine",) and reads[path] == 1
