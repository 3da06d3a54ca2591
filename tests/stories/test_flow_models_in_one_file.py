"""Stable Diffusion 3, FLUX.1, Z-Image and Qwen-Image from single files: the folder's picture to the bit, however things
are named.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from diffstudio.models.components.components import FolderComponents
from diffstudio.models.components.single_file import SingleFileComponents
from diffstudio.models.families import flux, qwen_image, sd3, z_image
from diffstudio.models.library.library import Library
from diffstudio.models.state_dicts.to_original import vae_to_original
from tests.models import original_names, small_flow
from tests.models.small_flow import CPU, checkpoint_of, ours

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

State = dict[str, Tensor]
BUILD: dict[str, tuple[Callable[..., Any], dict[str, Any], Any, Callable[[State], State]]] = {
    "sd3": (small_flow.small_sd3, {}, sd3, original_names.sd3),
    "sd3.5": (small_flow.small_sd3, {"newer": True}, sd3, original_names.sd3),
    "flux dev": (small_flow.small_flux, {}, flux, original_names.flux),
    "flux schnell": (small_flow.small_flux, {"guidance": False}, flux, original_names.flux),
    "z_image": (small_flow.small_z_image, {}, z_image, original_names.z_image),
    "qwen_image": (small_flow.small_qwen_image, {}, qwen_image, original_names.qwen_image),
}
COMFY = {
    "sd3": {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"},
    "flux": {"text_encoder": "clip_l", "text_encoder_2": "t5xxl"},
    "z_image": {"text_encoder": "qwen3_4b"},
    "qwen_image": {"text_encoder": "qwen25_7b"},
}
FILES = {
    "clip_l": "clip_l",
    "clip_g": "clip_g",
    "t5xxl": "t5xxl_fp16",
    "qwen3_4b": "qwen_3_4b",
    "qwen25_7b": "qwen_2.5_vl_7b",
}


class SmallWords(SingleFileComponents):
    """The small pipelines' CLIPs have a vocabulary of their own."""

    def tokenizer(self, name: str, kind: type[Any]) -> Any:
        return (
            FolderComponents(self._configs).tokenizer(name, kind)
            if kind.__name__.startswith("CLIP")
            else super().tokenizer(name, kind)
        )


class Made:
    """A family's small pipeline in a folder, its tensors by part, and the picture that the folder gives."""

    def __init__(self, which: str, folder: Path) -> None:
        build, options, self.module, self.to_original = BUILD[which]
        self.family, self.folder = which.split()[0].removesuffix(".5"), folder
        self.pipeline = build(folder, **options)
        self.parts: dict[str, State] = {
            name: {key: value.clone() for key, value in part.state_dict().items()}
            for name, part in self.pipeline.components.items()
            if isinstance(part, torch.nn.Module)
        }
        self.image = self.drawn(
            self.module.load(checkpoint_of(folder, self.family), FolderComponents(folder), CPU, torch.float32)
        )

    def drawn(self, model: Any) -> Tensor:
        image: Tensor = ours(
            model, ["red apple", "a photo of the sleeping cat"], guidance=2.0, negative="ugly", steps=3
        )
        return image

    def network(self, named: str) -> State:
        return self.to_original(self.parts["transformer"]) if named == "original" else dict(self.parts["transformer"])

    def vae(self) -> State:
        return (
            original_names.wan_vae(self.parts["vae"])
            if self.family == "qwen_image"
            else vae_to_original(self.parts["vae"])
        )

    def encoder(self, part: str) -> State:
        """As the files that go round have it: CLIP's with `text_model`, Qwen 2.5-VL's with its words and eyes apart."""
        state = self.parts[part]
        if "embeddings.token_embedding.weight" in state:
            return below("text_model.", state)
        if self.family == "qwen_image":
            return {
                name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value
                for name, value in state.items()
            }
        if self.family == "z_image":
            return below("model.", state)
        return {name: value for name, value in state.items() if name != "encoder.embed_tokens.weight"}

    def whole(self, named: str = "original") -> State:
        """Everything in one file, as ComfyUI saves it, or under diffusers' names of the parts."""
        if named == "diffusers":
            return {
                name: value for part, state in self.parts.items() for name, value in below(f"{part}.", state).items()
            }
        tensors = below("model.diffusion_model.", self.network(named)) | below("vae.", self.vae())
        for part, called in COMFY[self.family].items():
            tensors |= below(f"text_encoders.{called}.transformer.", self.encoder(part))
        return tensors

    def load(self, path: Path, library: Library | None = None, **options: Any) -> Any:
        parts = SmallWords(checkpoint_of(path, self.family), self.folder, library, **options)
        parts.complete()
        return self.module.load(checkpoint_of(path, self.family), parts, CPU, torch.float32)


def below(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def saved(path: Path, tensors: State, **about: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(
        {name: value.contiguous().clone() for name, value in tensors.items()}, path, metadata=about or None
    )
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    known: dict[str, Made] = {}

    def of(which: str) -> Made:
        if which not in known:
            known[which] = Made(which, tmp_path_factory.mktemp("family") / "folder")
        return known[which]

    return of


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def with_tokenizers(models: Path, folder: Path) -> None:
    """As ComfyUI's own package has them, beside its folder of models."""
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        if (folder / name / "tokenizer.json").is_file():
            shutil.copytree(folder / name, models.parent / "comfy" / "text_encoders" / f"{name}_as_it_is")


def pieces(models: Path, made: Made) -> None:
    """Text encoders, autoencoder and tokenizers where ComfyUI has them."""
    for part, called in COMFY[made.family].items():
        saved(models / "text_encoders" / f"{FILES[called]}.safetensors", made.encoder(part))
    called = {"sd3": "sd3_vae", "qwen_image": "qwen_image_vae"}.get(made.family, "ae")
    saved(models / "vae" / f"{called}.safetensors", made.vae())
    with_tokenizers(models, made.folder)


@pytest.mark.parametrize("named", ["original", "diffusers"])
@pytest.mark.parametrize("which", BUILD)
def test_all_in_one_file(made: Callable[[str], Made], models: Path, which: str, named: str) -> None:
    it = made(which)
    path = saved(models / "checkpoints" / "whole.safetensors", it.whole(named))
    with_tokenizers(models, it.folder)
    assert torch.equal(it.drawn(it.load(path, Library([models]))), it.image)


@pytest.mark.parametrize("named", ["original", "diffusers"])
@pytest.mark.parametrize("which", BUILD)
def test_the_network_alone_with_pieces_of_comfyui(
    made: Callable[[str], Made], models: Path, which: str, named: str
) -> None:
    it = made(which)
    path = saved(models / "diffusion_models" / "alone.safetensors", it.network(named))
    pieces(models, it)
    assert torch.equal(it.drawn(it.load(path, Library([models]))), it.image)
