"""One file, in the original or in diffusers' names, halved or in eighths, is the same model as the folder it was made
from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.clip_vocabulary import clip_vocabulary
from diffstudio.models.components.components import FolderComponents, empty_module
from diffstudio.models.components.open_components import open_components
from diffstudio.models.components.single_file import SingleFileComponents
from diffstudio.models.detection.types import Layout
from diffstudio.models.families import stable_diffusion, stable_diffusion_xl
from diffstudio.models.files.quantized_reader import combine_rows, open_rows
from diffstudio.models.state_dicts import to_diffusers
from diffstudio.models.state_dicts.to_original import TO_ORIGINAL, to_original
from tests.models import headers, small, small_files
from tests.models.families.beside import CPU, checkpoint, difference, ours

BUILDERS: dict[str, Callable[..., Any]] = {
    "sd1": small.small_sd1,
    "sd2": small.small_sd2,
    "sdxl": small.small_sdxl,
    "sdxl_refiner": small.small_refiner,
}
Made = tuple[Path, dict[str, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    known: dict[str, Made] = {}

    def made(family: str) -> Made:
        if family not in known:
            folder = tmp_path_factory.mktemp(family)
            pipeline = BUILDERS[family](folder)
            known[family] = folder, {part: getattr(pipeline, part).state_dict() for part in TO_ORIGINAL[family]}
        return known[family]

    return made


def single(path: Path, family: str, tensors: dict[str, Tensor], **about: Any) -> Checkpoint:
    safetensors.torch.save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return replace(checkpoint(path, family), layout=Layout.ORIGINAL, **about)


class SmallWords(SingleFileComponents):
    """The small pipelines have a vocabulary of their own."""

    def tokenizer(self, name: str, kind: type[Any]) -> Any:
        return FolderComponents(self._configs).tokenizer(name, kind)


def load(checkpoint: Checkpoint, folder: Path) -> Any:
    family = stable_diffusion_xl if checkpoint.family.startswith("sdxl") else stable_diffusion
    return family.load(checkpoint, SmallWords(checkpoint, folder), CPU, torch.float32)


def diffusers_names(parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("named", ["original", "diffusers"])
def test_the_same_weights_in_the_same_places(
    folders: Callable[[str], Made], tmp_path: Path, family: str, named: str
) -> None:
    folder, parts = folders(family)
    tensors = to_original(family, parts) if named == "original" else diffusers_names(parts)
    prediction = "v" if family == "sd2" else "eps"
    model = load(single(tmp_path / "one.safetensors", family, tensors, prediction=prediction), folder)
    found = {"unet": model.network, "vae": model.vae, **model.text_encoders}
    assert found.keys() == parts.keys()
    for part, module in found.items():
        state = module.state_dict()
        assert state.keys() == parts[part].keys()
        assert all(torch.equal(value, parts[part][name]) for name, value in state.items()), part
        assert not module.training and not any(value.requires_grad for value in module.parameters())
        assert not any(value.is_meta for value in (*module.parameters(), *module.buffers()))


def test_the_same_picture(folders: Callable[[str], Made], tmp_path: Path) -> None:
    folder, parts = folders("sd1")
    one = load(single(tmp_path / "one.safetensors", "sd1", to_original("sd1", parts)), folder)
    other = stable_diffusion.load(checkpoint(folder, "sd1"), FolderComponents(folder), CPU, torch.float32)
    assert torch.equal(ours(one, steps=3, sampler="euler"), ours(other, steps=3, sampler="euler"))


@lru_cache
def narrow(family: str) -> Any:
    """Stable Diffusion 1 or XL with the program's own configuration in everything but widths, and with CLIP's own
    words.
    """

    def encoder(number: int, kind: type[Any], act: str) -> Any:
        torch.manual_seed(number)
        return small._lively(
            kind(
                CLIPTextConfig(
                    vocab_size=49_408,
                    hidden_size=64 * number,
                    intermediate_size=128,
                    num_hidden_layers=3,
                    num_attention_heads=number,
                    hidden_act=act,
                    projection_dim=64 * number,
                    bos_token_id=49_406,
                    eos_token_id=49_407,
                    pad_token_id=1,
                )
            )
        )

    pipeline: Any = BUILDERS[family]()
    xl = family == "sdxl"
    unet_config = dict(pipeline.unet.config) | {
        "norm_num_groups": 32,
        "block_out_channels": (64, 128, 192) if xl else (32, 64, 96, 96),
    }
    unet_config |= (
        {
            "attention_head_dim": (1, 2, 3),
            "cross_attention_dim": 192,
            "transformer_layers_per_block": (1, 2, 10),
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 6 * 256 + 128,
        }
        if xl
        else {"attention_head_dim": 8, "cross_attention_dim": 64}
    )
    torch.manual_seed(3)
    pipeline.unet = UNet2DConditionModel.from_config(unet_config).eval()
    pipeline.vae = AutoencoderKL.from_config(
        dict(pipeline.vae.config) | {"block_out_channels": (32, 32, 64, 96), "norm_num_groups": 32}
    ).eval()
    pipeline.text_encoder, pipeline.tokenizer = encoder(1, CLIPTextModel, "quick_gelu"), small_files.words()
    if xl:
        pipeline.text_encoder_2, pipeline.tokenizer_2 = (
            encoder(2, CLIPTextModelWithProjection, "gelu"),
            small_files.words("!"),
        )
    return pipeline


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("named", ["original", "diffusers"])
def test_narrower_ones_are_as_wide_as_their_tensors(tmp_path: Path, family: str, named: str) -> None:
    pipeline = narrow(family)
    pipeline.save_pretrained(tmp_path / "folder")
    parts = {part: getattr(pipeline, part).state_dict() for part in TO_ORIGINAL[family]}
    tensors = to_original(family, parts) if named == "original" else diffusers_names(parts)
    one = single(tmp_path / "one.safetensors", family, tensors, prediction="eps")
    loading = stable_diffusion_xl if family == "sdxl" else stable_diffusion
    found = loading.load(one, SingleFileComponents(one), CPU, torch.float32)
    other = loading.load(
        checkpoint(tmp_path / "folder", family), FolderComponents(tmp_path / "folder"), CPU, torch.float32
    )
    settings: dict[str, Any] = {"steps": 2, "sampler": "euler", "width": 64, "height": 64}
    assert torch.equal(ours(found, **settings), ours(other, **settings))


def test_a_width_that_makes_no_sense_is_said(folders: Callable[[str], Made], tmp_path: Path) -> None:
    """Half as many channels as the groups that they are normalised in."""
    _, parts = folders("sd1")
    one = single(tmp_path / "one.safetensors", "sd1", to_original("sd1", parts))
    with pytest.raises(CheckpointDamaged, match="The vae of one.safetensors is incomplete or damaged.*divisible"):
        SingleFileComponents(one).module("vae", AutoencoderKL, torch.float32)


@pytest.mark.parametrize(
    ("stored", "most"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float8_e4m3fn, 0.2)]
)
def test_shorter_numbers_are_lengthened(
    folders: Callable[[str], Made], tmp_path: Path, stored: torch.dtype, most: float
) -> None:
    folder, parts = folders("sd1")
    tensors = {
        name: value.to(stored) if value.is_floating_point() else value
        for name, value in to_original("sd1", parts).items()
    }
    model = load(single(tmp_path / "short.safetensors", "sd1", tensors), folder)
    weight = model.network.conv_in.weight
    assert weight.dtype == torch.float32 and 0 < difference(weight, parts["unet"]["conv_in.weight"]) < most
    assert ours(model, steps=2, sampler="euler").isfinite().all()


def test_scaled_eighths(folders: Callable[[str], Made], tmp_path: Path) -> None:
    folder, parts = folders("sd1")
    tensors = to_original("sd1", parts)
    name = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    scale = tensors[name].abs().max() / 448
    tensors |= {
        name: (tensors[name] / scale).to(torch.float8_e4m3fn),
        name.replace(".weight", ".scale_weight"): scale,
        "model.diffusion_model.scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
    }
    model = load(single(tmp_path / "scaled.safetensors", "sd1", tensors), folder)
    found = model.network.mid_block.resnets[0].conv1.weight
    assert difference(found, parts["unet"]["mid_block.resnets.0.conv1.weight"]) < 0.05


def test_averaged_weights_and_other_extras_are_left_out(folders: Callable[[str], Made], tmp_path: Path) -> None:
    folder, parts = folders("sd1")
    extras = {
        "model_ema.diffusion_modelinput_blocks00weight": torch.zeros(3),
        "betas": torch.zeros(1000),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    load(single(tmp_path / "more.safetensors", "sd1", to_original("sd1", parts) | extras), folder)


def test_what_is_missing_or_misshapen_is_named(folders: Callable[[str], Made], tmp_path: Path) -> None:
    folder, parts = folders("sd1")
    tensors = to_original("sd1", parts)
    without_vae = {name: value for name, value in tensors.items() if not name.startswith("first_stage")}
    with pytest.raises(CheckpointMissing, match="has no Stable Diffusion VAE.*Put vae.* into "):
        load(single(tmp_path / "a.safetensors", "sd1", without_vae), folder)
    short = dict(tensors)
    del short["model.diffusion_model.out.2.weight"]
    with pytest.raises(
        CheckpointDamaged, match=r"unet of b.safetensors is incomplete or damaged: conv_out.weight is missing"
    ):
        load(single(tmp_path / "b.safetensors", "sd1", short), folder)
    odd = tensors | {"model.diffusion_model.out.2.weight": torch.zeros(4, 7, 3, 3)}
    with pytest.raises(CheckpointDamaged, match="has the shape"):
        load(single(tmp_path / "c.safetensors", "sd1", odd), folder)
    (tmp_path / "d.safetensors").write_text("hello")
    with pytest.raises(CheckpointDamaged, match="is not a weights file: it is a text that begins “hello”"):
        SingleFileComponents(checkpoint(tmp_path / "d.safetensors", "sd1"))


def test_clips_own_words() -> None:
    from transformers import CLIPTokenizer

    words, merges = clip_vocabulary()
    assert len(words) == 49_408 and words["<|startoftext|>"] == 49_406 and words["<|endoftext|>"] == 49_407
    tokenizer = CLIPTokenizer(vocab=dict(words), merges=list(merges))
    assert tokenizer("a photo of a cat").input_ids == [49_406, 320, 1125, 539, 320, 2368, 49_407]


PUBLISHED = {  # parameters as published, in millions
    "sd1": {"unet": 860, "vae": 84, "text_encoder": 123},
    "sd2": {"unet": 866, "vae": 84, "text_encoder": 340},
    "sdxl": {"unet": 2567, "vae": 84, "text_encoder": 123, "text_encoder_2": 695},
    "sdxl_refiner": {"unet": 2260, "vae": 84, "text_encoder_2": 695},
    "sd3": {"transformer": 2028, "vae": 84, "text_encoder": 124, "text_encoder_2": 695, "text_encoder_3": 4762},
    "flux": {"transformer": 11901, "vae": 84, "text_encoder": 123, "text_encoder_2": 4762},
    "z_image": {"transformer": 6155, "vae": 84, "text_encoder": 4022},
    "qwen_image": {"transformer": 20430, "vae": 127, "text_encoder": 8292},
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_configurations_that_come_with_the_program(family: str) -> None:
    """Real sizes, on no device."""
    import diffusers
    import transformers

    for part, expected in PUBLISHED[family].items():
        config = json.loads((paths.resources() / "families" / family / part / "config.json").read_text())
        name = config.get("_class_name") or config["architectures"][0]
        kind = getattr(diffusers, name, None) or getattr(transformers, name.replace("Qwen3ForCausalLM", "Qwen3Model"))
        module = empty_module(kind, config)
        parameters = {id(value): value.numel() for value in module.parameters()}
        if part == "text_encoder_3" or name == "T5EncoderModel":
            parameters.pop(id(module.encoder.embed_tokens.weight))  # its words, under another name
        assert round(sum(parameters.values()) / 1e6) == pytest.approx(expected, abs=1), part


NETWORKS: dict[str, tuple[str, Callable[[], Any], Callable[[], Any]]] = {
    **{
        f"sd3 {edition}": (
            "sd3",
            lambda edition=edition: headers.mmdit_sd3(edition),
            lambda edition=edition: headers.sd3(edition),
        )
        for edition in ("3 medium", "3.5 medium", "3.5 large")
    },
    "flux dev": ("flux", headers.bfl_flux, headers.flux),
    "flux schnell": ("flux", lambda: headers.bfl_flux(False), lambda: headers.flux(False)),
    "z_image": ("z_image", headers.comfy_z_image, headers.z_image),
    "qwen_image": ("qwen_image", headers.qwen_image, headers.qwen_image),
}


@pytest.mark.parametrize("which", NETWORKS)
def test_published_networks_in_full_size_have_a_place_for_every_tensor(tmp_path: Path, which: str) -> None:
    """From the header alone: the configuration that its shapes give is that of a network with exactly these tensors."""
    import diffusers

    family, network_shapes, theirs = NETWORKS[which]
    path = headers.write_header(tmp_path / "network.safetensors", network_shapes(), "BF16")
    parts = SingleFileComponents(replace(checkpoint(path, family), layout=Layout.ORIGINAL))
    config = parts.config("transformer")
    module = empty_module(getattr(diffusers, str(config["_class_name"])), dict(config))
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == theirs()


def test_a_file_that_cannot_be_mapped_is_read_tensor_by_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one larger than the memory may be."""
    tensors = {"a.weight": torch.randn(3, 4), "b.weight": torch.randn(5).bfloat16(), "c": torch.zeros(0)}
    safetensors.torch.save_file(tensors, tmp_path / "large.safetensors")

    def refuses(*given: Any, **options: Any) -> Any:
        raise RuntimeError("unable to mmap 40861047826 bytes from file: Cannot allocate memory (12)")

    monkeypatch.setattr(safetensors, "safe_open", refuses)
    weights = open_rows(tmp_path / "large.safetensors")
    found = {
        name: combine_rows([weights.rows(name, 0, len(value))], value.dtype, False) for name, value in tensors.items()
    }
    assert all(isinstance(one, Tensor) and torch.equal(one, tensors[name]) for name, one in found.items())


def test_fluxs_names_lead_where_diffusers_own_converter_leads() -> None:
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    for guidance in (True, False):
        shapes = headers.bfl_flux(guidance)
        numbered = {name: to_diffusers._row_numbers(index, shape) for index, (name, shape) in enumerate(shapes.items())}
        expected = convert_flux_transformer_checkpoint_to_diffusers(dict(numbered))
        found = to_diffusers.key_map("transformer", shapes, {})
        assert found == {name: to_diffusers._row_slices(value, list(shapes)) for name, value in expected.items()}


def test_parts_of_a_single_file(folders: Callable[[str], Made], tmp_path: Path) -> None:
    _, parts = folders("sd1")
    found = open_components(single(tmp_path / "one.safetensors", "sd1", to_original("sd1", parts), prediction="v"))
    assert (
        isinstance(found, SingleFileComponents)
        and found.has("unet")
        and found.has("tokenizer")
        and not found.has("text_encoder_2")
    )
    assert found.config("scheduler")["prediction_type"] == "v_prediction"
