"""TAESD: recognised however it was published, found for the latents that it decodes, equal to diffusers' AutoencoderTiny."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.components.tiny_decoder import (
    find_preview_decoder,
    find_tiny_decoder,
    latent_space_of,
    load_tiny_decoder,
)
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.loading import load
from tests.models import small

CPU = torch.device("cpu")
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def tiny() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny().eval().requires_grad_(False)


def numbered(tiny: AutoencoderTiny, kind: str) -> State:
    """As madebyollin/taesd has them: layer 0 of the decoder, which limits the latents, has no weights."""
    first = 1 if kind == "decoder" else 0
    state = tiny.state_dict()
    parts = {key: key.removeprefix(f"{kind}.layers.").partition(".") for key in state if key.startswith(f"{kind}.")}
    return {f"{int(number) + first}.{rest}": state[key].clone() for key, (number, _, rest) in parts.items()}


def as_pth(tiny: AutoencoderTiny, folder: Path) -> Path:
    torch.save(numbered(tiny, "decoder"), folder / "taesd_decoder.pth")
    return folder / "taesd_decoder.pth"


def as_safetensors(tiny: AutoencoderTiny, folder: Path) -> Path:
    save_file(numbered(tiny, "decoder"), folder / "taesd_decoder.safetensors")
    return folder / "taesd_decoder.safetensors"


def as_one_file(tiny: AutoencoderTiny, folder: Path) -> Path:
    both = {
        f"taesd_{kind}.{name}": value for kind in ("encoder", "decoder") for name, value in numbered(tiny, kind).items()
    }
    save_file(both | {"vae_scale": torch.ones(1), "vae_shift": torch.zeros(1)}, folder / "taesd.safetensors")
    return folder / "taesd.safetensors"


def as_diffusers(tiny: AutoencoderTiny, folder: Path) -> Path:
    tiny.save_pretrained(folder / "taesd")
    return folder / "taesd" / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("save", [as_pth, as_safetensors, as_one_file, as_diffusers])
def test_every_publication_decodes_as_diffusers_does(
    save: Callable[[AutoencoderTiny, Path], Path], tiny: AutoencoderTiny, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(save(tiny, tmp_path))
    assert checkpoint.role is Role.VAE and checkpoint.edition == "TAESD, 4 channels"
    assert "it decodes the previews" in checkpoint.reason and latent_space_of(checkpoint) == "sd1"
    latents = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    found = load_tiny_decoder(checkpoint, CPU, torch.float32)(latents)
    assert found.shape == (2, 3, 48, 40) and torch.equal(found, tiny.decode(latents).sample)


def test_the_encoder_alone_is_named(tiny: AutoencoderTiny, tmp_path: Path) -> None:
    torch.save(numbered(tiny, "encoder"), tmp_path / "taesd_encoder.pth")
    checkpoint = read_checkpoint(tmp_path / "taesd_encoder.pth")
    assert checkpoint.role is Role.VAE and checkpoint.edition == "TAESD encoder"
    assert checkpoint.reason.startswith("The encoder of a tiny VAE (TAESD); previews need its decoder.")


def test_a_file_is_named_before_its_folder(tmp_path: Path) -> None:
    for name, expected in (
        ("taesdxl/taesd_decoder", "sd1"),
        ("taesdxl/decoder", "sdxl"),
        ("taef1/TAESD3-decoder", "sd3"),
        ("vae_approx/decoder", ""),
    ):
        write(tmp_path, f"{name}.safetensors", 4)
        assert latent_space_of(read_checkpoint(tmp_path / f"{name}.safetensors")) == expected, name


def write(folder: Path, name: str, channels: int) -> None:
    """A decoder whose weights are all zeros."""
    decoder = AutoencoderTiny(latent_channels=channels).decoder.state_dict()
    state = {key.removeprefix("layers."): torch.zeros_like(value) for key, value in decoder.items()}
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"{int(key.partition('.')[0]) + 1}.{key.partition('.')[2]}": value for key, value in state.items()},
        folder / name,
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, channels in (("taesd", 4), ("taesdxl", 4), ("taesd3", 16), ("taef1", 16)):
        write(folder / "vae_approx", f"{name}_decoder.safetensors", channels)
    write(folder, "unnamed.safetensors", 4)
    return folder


@pytest.mark.parametrize(
    ("family", "channels", "expected"),
    [
        ("sd1", 4, "taesd_decoder"),
        ("sd2", 4, "taesd_decoder"),
        ("sdxl", 4, "taesdxl_decoder"),
        ("sdxl_refiner", 4, "taesdxl_decoder"),
        ("sd3", 16, "taesd3_decoder"),
        ("flux", 16, "taef1_decoder"),
        ("z_image", 16, "taef1_decoder"),
        ("qwen_image", 16, None),
        ("diffusers", 4, None),
        ("sd1", 16, None),
    ],
)
def test_it_is_found_for_the_latents_that_it_decodes(
    models: Path, home: Path, family: str, channels: int, expected: str | None
) -> None:
    found = find_tiny_decoder(family, channels, Library([models]))
    assert (found.name if found is not None else None) == expected


def test_what_cannot_be_read_is_said(models: Path, home: Path, tmp_path: Path) -> None:
    assert find_preview_decoder("sd1", 4, None, CPU, torch.float32) == (None, "")
    assert find_preview_decoder("qwen_image", 16, Library([models]), CPU, torch.float32) == (None, "")
    decoder, note = find_preview_decoder("sdxl", 4, Library([models]), CPU, torch.float32)
    assert decoder is not None and note == "Previews are decoded by taesdxl_decoder.safetensors."
    state = {
        "1.weight": torch.zeros(64, 4, 3, 3),
        "3.conv.0.weight": torch.zeros(1),
        "19.weight": torch.zeros(3, 64, 3, 3),
    }
    save_file(state, tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(CheckpointDamaged, match="taesd_decoder.safetensors is an incomplete or damaged TAESD"):
        load_tiny_decoder(read_checkpoint(tmp_path / "taesd_decoder.safetensors"), CPU, torch.float32)
    decoder, note = find_preview_decoder("sd1", 4, Library([tmp_path]), CPU, torch.float32)
    assert decoder is None and note.startswith("Previews are approximate. taesd_decoder.safetensors is an incomplete")


def test_a_model_is_loaded_with_the_tiny_decoder_of_its_latents(models: Path, home: Path, tmp_path: Path) -> None:
    small.small_sd1(tmp_path / "model")
    checkpoint = read_checkpoint(tmp_path / "model")
    loaded = load(checkpoint, CPU, torch.float32, library=Library([models]))
    assert loaded.preview_decoder is not None
    assert loaded.load_notes == ("Previews are decoded by taesd_decoder.safetensors.",)
    plain = load(checkpoint, CPU, torch.float32, library=Library([tmp_path]))
    assert plain.preview_decoder is None and plain.load_notes == ()
