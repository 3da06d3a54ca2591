"""Text encoders, autoencoders and tokenizers in a person's folders: which of several is taken, and what is said without
one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import Qwen2Tokenizer, T5Tokenizer

from diffstudio import paths
from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.components.open_components import open_components
from diffstudio.models.components.requirements import (
    COMPONENT_KINDS,
    REQUIREMENTS,
    FileLocation,
    FolderLocation,
    Requirement,
    identifying_shape,
)
from diffstudio.models.components.search import ComponentSearch, compatible_vaes
from diffstudio.models.components.single_file import SingleFileComponents
from diffstudio.models.components.tokenizers import tokenizer_folders, tokenizer_in
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.types import Role
from diffstudio.models.files.lazy_tensor import materialize
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.state_dicts.to_original import TO_ORIGINAL, to_original, vae_to_original
from diffstudio.models.tools.weights_writer import open_checkpoint
from tests.models import headers, small
from tests.models.families.beside import checkpoint, ours
from tests.models.headers import write_header
from tests.models.small_flow import CPU, checkpoint_of, small_qwen_tokenizer, small_t5_tokenizer
from tests.stories.test_flow_models_in_one_file import Made, below, pieces, saved, with_tokenizers

T5 = {"vocab_size": 32128, "d_model": 4096}
CLIP_L = {"vocab_size": 49408, "hidden_size": 768}
LATENTS = {"latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)  # ComfyUI's
    return tmp_path / "models"


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made("flux dev", tmp_path_factory.mktemp("flux") / "folder")


def need(family: str, part: str) -> Requirement:
    return next(one for one in REQUIREMENTS[family] if one.component == part)


def network(models: Path) -> Checkpoint:
    return read_checkpoint(
        write_header(models / "diffusion_models" / "flux1-dev.safetensors", headers.bfl_flux(), "BF16")
    )


def found(models: Path, part: str, config: dict[str, Any], family: str = "flux") -> Any:
    return ComponentSearch(network(models), Library([models])).find(need(family, part), config)


def test_autoencoders_that_may_take_the_place_of_a_checkpoints_own(models: Path) -> None:
    for name, shapes in {
        "vae-ft-mse-840000-ema-pruned": headers.vae(),
        "sdxl_vae": headers.vae(),
        "ae": headers.vae(16),
        "qwen_image_vae": headers.qwen_vae(),
        "somebodys": headers.ldm_vae(),
    }.items():
        write_header(models / "vae" / f"{name}.safetensors", shapes)
    for family in ("sd1", "sdxl"):
        write_header(models / "checkpoints" / f"{family}.safetensors", headers.whole(family))
    network(models)
    found = {model.name: model for model in Library([models]).scan()}
    offered = {
        name: {vae.name for vae in compatible_vaes(found[name], found.values())}
        for name in ("sd1", "sdxl", "flux1-dev")
    }
    assert offered == {
        "sd1": {"vae-ft-mse-840000-ema-pruned", "somebodys"},
        "sdxl": {"sdxl_vae", "somebodys"},
        "flux1-dev": {"ae"},
    }


# ---- which one -------------------------------------------------------------------------------------------------------


def test_published_text_encoders_are_known_by_their_headers(models: Path) -> None:
    encoders = models / "text_encoders"
    clip_l = write_header(encoders / "clip_l.safetensors", headers.clip())
    clip_g = write_header(encoders / "clip_g.safetensors", headers.clip(1280, 32))
    t5 = write_header(encoders / "t5xxl_fp8_e4m3fn.safetensors", headers.t5(), "F8_E4M3")
    assert found(models, "text_encoder", CLIP_L) == FileLocation(clip_l, "")
    assert found(models, "text_encoder_2", CLIP_L | {"hidden_size": 1280}, "sd3") == FileLocation(clip_g, "")
    assert found(models, "text_encoder_2", T5) == FileLocation(t5, "")
    better = write_header(encoders / "t5xxl_fp16.safetensors", headers.t5())
    assert found(models, "text_encoder_2", T5) == FileLocation(better, "")  # the more exact one of two
    write_header(encoders / "umt5.safetensors", headers.t5() | {"shared.weight": (256384, 4096)}, "F32")
    assert found(models, "text_encoder_2", T5) == FileLocation(better, "")
    assert found(models, "text_encoder_2", T5 | {"d_model": 2048}) is None


@pytest.mark.parametrize(
    ("called", "fits"),
    [
        ("ae", {"vae-flux"}),
        ("flux_vae", {"vae-flux"}),
        ("sd3_vae", {"vae-sd3"}),
        ("sd3.5-vae", {"vae-sd3"}),
        ("vae_16", {"vae-flux", "vae-sd3"}),
    ],
)
def test_autoencoders_of_one_size_are_told_apart_by_their_names(models: Path, called: str, fits: set[str]) -> None:
    path = write_header(models / "vae" / f"{called}.safetensors", headers.ldm_vae(16), "F32")
    for family, kind in (("flux", "vae-flux"), ("sd3", "vae-sd3")):
        assert found(models, "vae", LATENTS, family) == (FileLocation(path, "") if kind in fits else None)


def test_one_that_is_called_right_goes_before_a_more_exact_one(models: Path) -> None:
    write_header(models / "vae" / "another.safetensors", headers.ldm_vae(16), "F32")
    named = write_header(models / "vae" / "ae.safetensors", headers.ldm_vae(16), "BF16")
    assert found(models, "vae", LATENTS) == FileLocation(named, "")
    assert found(models, "vae", LATENTS | {"latent_channels": 4}) is None


def test_diffusers_folders_lend_and_so_do_whole_checkpoints(models: Path, flux: Made, tmp_path: Path) -> None:
    config = {
        name: json.loads((flux.folder / name / "config.json").read_text())
        for name in ("vae", "text_encoder", "text_encoder_2")
    }
    shutil.copytree(flux.folder, models / "diffusers" / "small-flux")
    for part, about in config.items():
        assert found(models, part, about) == FolderLocation(models / "diffusers" / "small-flux", part)
    assert (
        found(models, "vae", config["vae"] | {"scaling_factor": 1.5305}) is None
    )  # Stable Diffusion 3's, of the same size
    shutil.rmtree(models / "diffusers")
    whole = saved(models / "checkpoints" / "whole.safetensors", flux.whole())
    assert found(models, "vae", config["vae"]) == FileLocation(whole, "vae.")
    assert found(models, "text_encoder_2", config["text_encoder_2"]) == FileLocation(
        whole, "text_encoders.t5xxl.transformer."
    )


def test_a_network_draws_with_what_a_folder_lends(models: Path, flux: Made) -> None:
    shutil.copytree(flux.folder, models / "diffusers" / "small-flux")
    path = saved(models / "diffusion_models" / "alone.safetensors", flux.network("original"))
    model = flux.load(path, Library([models]))
    assert torch.equal(flux.drawn(model), flux.image)


def test_stable_diffusion_3_draws_without_t5_and_with_one_that_is_found(models: Path, tmp_path: Path) -> None:
    it = Made("sd3", tmp_path / "sd3")
    tensors = {name: value for name, value in it.whole().items() if "t5xxl" not in name}
    path = saved(models / "checkpoints" / "sd3_medium_incl_clips.safetensors", tensors)
    without = it.load(path, Library([models]))
    assert not without.has_t5 and not torch.equal(it.drawn(without), it.image)
    saved(models / "text_encoders" / "t5xxl.safetensors", it.encoder("text_encoder_3"))
    with_tokenizers(models, it.folder)
    assert torch.equal(it.drawn(it.load(path, Library([models]))), it.image)


# ---- what is missing -------------------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_named_at_once(models: Path) -> None:
    with pytest.raises(CheckpointMissing) as caught:
        loading.load(network(models), CPU, library=Library([models]))
    message = str(caught.value)
    assert "flux1-dev has no CLIP-L text encoder, T5-XXL text encoder, FLUX.1 VAE and T5 tokenizer" in message
    assert (
        "Put text_encoders/clip_l.safetensors, text_encoders/t5xxl_fp16.safetensors, vae/ae.safetensors and "
        f"tokenizers/t5/tokenizer.json into {models}."
    ) in message
    assert caught.value.missing_components == ("clip_l", "t5", "vae-flux", "tokenizer-t5")
    assert set(caught.value.missing_components) <= set(COMPONENT_KINDS)


def test_what_was_found_elsewhere_is_said(models: Path, flux: Made) -> None:
    path = saved(models / "diffusion_models" / "alone.safetensors", flux.network("original"))
    pieces(models, flux)
    parts = SingleFileComponents(checkpoint_of(path, "flux"), flux.folder, Library([models]))
    parts.complete()
    assert parts.notes == (
        "alone.safetensors uses the CLIP-L text encoder from clip_l.safetensors, the T5-XXL text encoder from "
        "t5xxl_fp16.safetensors and the FLUX.1 VAE from ae.safetensors.",
    )
    whole = saved(models / "checkpoints" / "whole.safetensors", flux.whole())
    assert SingleFileComponents(checkpoint_of(whole, "flux"), flux.folder, Library([models])).notes == ()


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def test_tokenizers_are_known_by_their_words(tmp_path: Path) -> None:
    small_t5_tokenizer().save_pretrained(tmp_path / "t5")
    small_qwen_tokenizer().save_pretrained(tmp_path / "qwen")
    small.small_clip_tokenizer().save_pretrained(tmp_path / "clip")
    known = {name: tokenizer_in(tmp_path / name) for name in ("t5", "qwen", "clip", "nothing")}
    assert known["t5"] is not None and known["qwen"] is not None and known["clip"] is known["nothing"] is None
    assert (known["t5"].kind, known["t5"].vocab_size) == ("t5", len(small_t5_tokenizer()))
    assert (known["qwen"].kind, known["qwen"].vocab_size) == ("qwen", len(small_qwen_tokenizer()))
    for damaged in (
        "[" * 100_000,
        '{"model": [], "added_tokens": 5}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": 5}',
    ):
        (tmp_path / "t5" / "tokenizer.json").write_text(damaged)
        assert tokenizer_in(tmp_path / "t5") is None


def test_qwens_in_the_form_that_comfyui_has_it(tmp_path: Path) -> None:
    """`vocab.json`, `merges.txt` and a `tokenizer_config.json` with the words that begin and end a turn."""
    small_qwen_tokenizer().save_pretrained(tmp_path / "new")
    whole = json.loads((tmp_path / "new" / "tokenizer.json").read_text())
    old = tmp_path / "comfy" / "text_encoders" / "qwen25_tokenizer"
    old.mkdir(parents=True)
    (old / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in whole["model"]["merges"]))
    added = {str(token.pop("id")): token for token in whole["added_tokens"]}
    (old / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "Qwen2Tokenizer",
                "added_tokens_decoder": added,
                "pad_token": "<|endoftext|>",
                "eos_token": "<|im_end|>",
                "chat_template": "another model's",
            }
        )
    )
    known = tokenizer_in(old)
    assert known is not None and known.kind == "qwen" and known.vocab_size == len(small_qwen_tokenizer())
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    elsewhere = ComponentSearch(
        checkpoint_of(tmp_path / "models" / "z.safetensors", "z_image"), Library([tmp_path / "models"])
    )
    assert elsewhere.tokenizer("qwen", known.vocab_size, None) == old
    assert (
        elsewhere.tokenizer("qwen", known.vocab_size - 1, None) is None
        and elsewhere.tokenizer("t5", known.vocab_size, None) is None
    )
    text = "<|im_start|>user\na red apple<|im_end|>\n"
    assert Qwen2Tokenizer.from_pretrained(old)(text).input_ids == small_qwen_tokenizer()(text).input_ids


def test_added_tokens_of_another_type_than_text_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("")
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    added = {"1": {"content": "<|im_start|>"}, "2": {"content": ["b"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    known = tokenizer_in(tmp_path)
    assert known is not None and known.kind == "qwen" and known.vocab_size == 3


def test_a_link_to_itself_does_not_hide_the_tokenizers_next_to_it(tmp_path: Path) -> None:
    small_t5_tokenizer().save_pretrained(tmp_path / "t5")
    (tmp_path / "loop").symlink_to("loop")
    assert tmp_path / "t5" in list(tokenizer_folders(tmp_path, (), ()))


def test_t5s_file_alone_is_enough(tmp_path: Path) -> None:
    small_t5_tokenizer().save_pretrained(tmp_path / "whole")
    (tmp_path / "t5_tokenizer").mkdir()
    shutil.copy(tmp_path / "whole" / "tokenizer.json", tmp_path / "t5_tokenizer")
    assert tokenizer_in(tmp_path / "t5_tokenizer") is not None
    read = T5Tokenizer.from_pretrained(tmp_path / "t5_tokenizer", local_files_only=True)
    assert read("a red apple").input_ids == small_t5_tokenizer()("a red apple").input_ids


# ---- autoencoders that a person chose --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sd1") / "folder"
    pipeline = small.small_sd1(folder)
    return folder, {part: getattr(pipeline, part).state_dict() for part in TO_ORIGINAL["sd1"]}


@lru_cache
def another_vae(seed: int = 77) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = small.small_vae(seed=seed).state_dict()
    return state


def test_a_vae_beside_the_checkpoint_and_under_its_name_is_used(
    tmp_path: Path, sd1: tuple[Path, dict[str, Any]]
) -> None:
    folder, parts = sd1
    path = saved(tmp_path / "anything-v3.safetensors", to_original("sd1", parts))
    beside = saved(tmp_path / "anything-v3.vae.safetensors", vae_to_original(another_vae()))
    from diffusers import AutoencoderKL

    read = SingleFileComponents(checkpoint(path, "sd1"), folder)
    vae = read.module("vae", AutoencoderKL, torch.float32)
    assert all(torch.equal(value, another_vae()[name]) for name, value in vae.state_dict().items())
    assert read.notes == ("anything-v3.safetensors uses the Stable Diffusion VAE from anything-v3.vae.safetensors.",)
    whole = beside.read_bytes()
    for unusable, why in (
        (whole[:1000], r"anything-v3.vae.safetensors .*(damaged|cut short)"),
        (None, "anything-v3.vae.safetensors is not a Stable Diffusion VAE."),
    ):
        if unusable is None:
            safetensors.torch.save_file({"odd": torch.zeros(1)}, beside)
        else:
            beside.write_bytes(unusable)
        read = SingleFileComponents(checkpoint(path, "sd1"), folder)
        vae = read.module("vae", AutoencoderKL, torch.float32)
        assert all(torch.equal(value, parts["vae"][name]) for name, value in vae.state_dict().items())
        assert len(read.notes) == 1
        assert re.match(f"The VAE next to anything-v3.safetensors is not used: {why}", read.notes[0]), read.notes
    beside.unlink()
    vae = SingleFileComponents(checkpoint(path, "sd1"), folder).module("vae", AutoencoderKL, torch.float32)
    assert all(torch.equal(value, parts["vae"][name]) for name, value in vae.state_dict().items())


@pytest.mark.parametrize("named", ["original", "diffusers"])
def test_another_autoencoder_for_a_diffusers_folder(
    tmp_path: Path, sd1: tuple[Path, dict[str, Any]], named: str
) -> None:
    folder, _ = sd1
    vae = saved(
        tmp_path / "other.safetensors", vae_to_original(another_vae()) if named == "original" else another_vae()
    )
    record = read_checkpoint(vae)
    model = loading.load(Library([folder.parent]).find(folder), CPU, torch.float32, vae=record)
    plain = loading.load(Library([folder.parent]).find(folder), CPU, torch.float32)
    assert all(torch.equal(value, another_vae()[name]) for name, value in model.vae.state_dict().items())
    assert model.load_notes == (f"{folder.name} uses the VAE from {vae.name}.",) and plain.load_notes == ()
    assert torch.equal(ours(model, steps=2), ours(plain, steps=2))
    assert not torch.equal(model.decode(ours(model, steps=2)), plain.decode(ours(plain, steps=2)))


def test_one_that_does_not_fit_is_refused(tmp_path: Path, sd1: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = sd1
    film = read_checkpoint(saved(tmp_path / "film.safetensors", small.small_vae(16).state_dict()))
    with pytest.raises(CheckpointUnknown, match="film is not a VAE for .*its latents are not those"):
        open_components(Library([folder.parent]).find(folder), vae=film)
    with pytest.raises(BadRequest, match="it generates pixels"):
        loading.load(Library().find("starter"), CPU, vae=film)


# ---- diffusers folders in all their variants -------------------------------------------------------------------------


def test_variants_of_a_component(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    vae = small.small_vae()
    whole = vae.state_dict()
    vae.save_pretrained(tmp_path / "plain" / "vae")
    vae.save_pretrained(tmp_path / "half" / "vae", variant="fp16")
    vae.save_pretrained(tmp_path / "parts" / "vae", max_shard_size="40KB")
    vae.save_pretrained(tmp_path / "both" / "vae", variant="fp16", max_shard_size="40KB")
    shutil.copytree(tmp_path / "half" / "vae", tmp_path / "mixed" / "vae")
    small.small_vae(seed=5).save_pretrained(tmp_path / "mixed" / "vae", variant="non_ema")
    vae.save_pretrained(tmp_path / "pickle" / "vae", safe_serialization=False)
    for kind in ("plain", "half", "parts", "both", "mixed", "pickle"):
        read = FolderComponents(tmp_path / kind).module("vae", AutoencoderKL, torch.float32)
        assert all(torch.equal(value, whole[name]) for name, value in read.state_dict().items()), kind
        assert not read.training and not any(value.requires_grad for value in read.parameters())
    with pytest.raises(CheckpointMissing, match="has no text_encoder"):
        FolderComponents(tmp_path / "plain").module("text_encoder", AutoencoderKL, torch.float32)


def test_a_component_whose_weights_are_incomplete_is_refused(tmp_path: Path) -> None:
    """diffusers and transformers warn, and fill what is missing with random values."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel

    small.small_sd1(tmp_path / "sd1")
    for component, kind, key in (
        ("vae", AutoencoderKL, "decoder.conv_in.bias"),
        ("text_encoder", CLIPTextModel, "final_layer_norm.weight"),
    ):
        file = next((tmp_path / "sd1" / component).glob("*.safetensors"))
        tensors = safetensors.torch.load_file(file)
        stored = next(name for name in tensors if name.endswith(key))
        del tensors[stored]
        safetensors.torch.save_file(tensors, file, {"format": "pt"})
        with pytest.raises(CheckpointDamaged, match=f"The {component} of sd1 cannot be loaded: .*{key} is missing"):
            FolderComponents(tmp_path / "sd1").module(component, kind, torch.float32)


def test_a_folder_whose_vae_has_an_incomplete_config_is_not_a_vae(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "sd1"
    small.small_sd1(folder)
    shutil.copytree(folder, tmp_path / "models" / "odd")
    (tmp_path / "models" / "odd" / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    library = Library([tmp_path / "models"])
    with pytest.raises(CheckpointUnknown, match="odd is not a VAE for sd1"):
        open_components(library.find("sd1"), vae=library.find("odd"))


def test_one_file_among_whole_checkpoints_of_another_family_lends_nothing(models: Path, flux: Made) -> None:
    saved(models / "checkpoints" / "odd.safetensors", below("first_stage_model.", flux.parts["vae"]))
    config = json.loads((flux.folder / "text_encoder" / "config.json").read_text())
    assert found(models, "text_encoder", config) is None


def test_a_folder_of_pickles_alone_draws_the_same(tmp_path: Path, sd1: tuple[Path, dict[str, Any]]) -> None:
    """As they were published before safetensors; gone through first, and nothing in them is run."""
    folder, _ = sd1
    shutil.copytree(folder, tmp_path / "old")
    for weights in sorted((tmp_path / "old").glob("*/*.safetensors")):
        pickled = "pytorch_model.bin" if weights.name.startswith("model") else "diffusion_pytorch_model.bin"
        torch.save(dict(safetensors.torch.load_file(weights)), weights.with_name(pickled))
        weights.unlink()
    record = Library([tmp_path]).find(tmp_path / "old")
    assert record.can_generate and record.family == "sd1" and "pickles, scanned" in record.reason
    assert record.parameters == Library([folder.parent]).find(folder).parameters
    model, plain = (
        loading.load(record, CPU, torch.float32),
        loading.load(Library([folder.parent]).find(folder), CPU, torch.float32),
    )
    assert torch.equal(ours(model, steps=2), ours(plain, steps=2))


def test_an_old_checkpoint_file_draws_the_same(tmp_path: Path, sd1: tuple[Path, dict[str, Any]]) -> None:
    """A `.ckpt` in the original names, below `state_dict`, with what a trainer leaves beside it."""
    from diffstudio.models.families import stable_diffusion
    from tests.models.components.test_single_file import SmallWords

    folder, parts = sd1
    path = tmp_path / "v1-5-pruned-emaonly.ckpt"
    torch.save({"state_dict": to_original("sd1", parts), "global_step": 840000, "epoch": 1}, path)
    model = stable_diffusion.load(
        checkpoint(path, "sd1"), SmallWords(checkpoint(path, "sd1"), folder), CPU, torch.float32
    )
    plain = loading.load(Library([folder.parent]).find(folder), CPU, torch.float32)
    assert torch.equal(ours(model, steps=2), ours(plain, steps=2))


QWEN3 = os.environ.get("DIFFSTUDIO_QWEN3_TOKENIZER", "")  # a folder with the tokenizer.json of Qwen/Qwen3-4B


@pytest.mark.skipif(not QWEN3, reason="DIFFSTUDIO_QWEN3_TOKENIZER names no folder")
def test_the_published_tokenizer_of_qwen3() -> None:
    """Its 151,643 pieces and 26 added tokens, and the published ids of a sentence."""
    from tokenizers import Tokenizer

    known = tokenizer_in(Path(QWEN3))
    assert known is not None and (known.kind, known.vocab_size) == ("qwen", 151_669)
    encoded = Tokenizer.from_file(str(Path(QWEN3) / "tokenizer.json")).encode("<|im_start|>Hello, world!<|im_end|>")
    assert encoded.ids == [151_644, 9707, 11, 1879, 0, 151_645]


# ---- suffixes that are not those of the formats ----------------------------------------------------------------------


def rename(folder: Path, *, pickled: bool) -> None:
    """Pickles called `.safetensors`, or safetensors files called `.bin`."""
    for weights in sorted(folder.glob("*/*.safetensors")):
        if pickled:
            torch.save(safetensors.torch.load(weights.read_bytes()), weights)
        else:
            weights.rename(weights.with_suffix(".bin"))


@pytest.mark.parametrize("pickled", [True, False])
def test_a_folder_of_files_with_other_suffixes_draws_the_same(
    pickled: bool, tmp_path: Path, sd1: tuple[Path, dict[str, Any]]
) -> None:
    folder, _ = sd1
    shutil.copytree(folder, tmp_path / "renamed")
    rename(tmp_path / "renamed", pickled=pickled)
    record, plain = Library([tmp_path]).find(tmp_path / "renamed"), Library([folder.parent]).find(folder)
    assert record.can_generate and ("pickles, scanned" in record.reason) == pickled
    assert (record.parameters, record.dtype) == (plain.parameters, plain.dtype)
    assert torch.equal(
        ours(loading.load(record, CPU, torch.float32), steps=2), ours(loading.load(plain, CPU, torch.float32), steps=2)
    )
    with open_checkpoint(record) as renamed, open_checkpoint(plain) as whole:
        assert renamed.tensors.keys() == whole.tensors.keys()
        name = next(name for name in whole.tensors if name.startswith("vae."))
        assert torch.equal(materialize(renamed.tensors[name]), materialize(whole.tensors[name]))


def test_each_file_of_a_component_is_read_by_its_content(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    vae = small.small_vae()
    whole = vae.state_dict()
    vae.save_pretrained(tmp_path / "shards" / "vae", max_shard_size="40KB")
    first = min((tmp_path / "shards" / "vae").glob("*-00001-*.safetensors"))
    torch.save(safetensors.torch.load(first.read_bytes()), first)
    vae.save_pretrained(tmp_path / "variants" / "vae")
    other = {name: value + 1 for name, value in whole.items()}
    torch.save(other, tmp_path / "variants" / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    vae.save_pretrained(tmp_path / "sft" / "vae")
    (weights,) = (tmp_path / "sft" / "vae").glob("*.safetensors")
    weights.rename(weights.with_suffix(".sft"))
    for kind in ("shards", "variants", "sft"):
        read = FolderComponents(tmp_path / kind).module("vae", AutoencoderKL, torch.float32)
        assert all(torch.equal(value, whole[name]) for name, value in read.state_dict().items()), kind


def test_what_was_downloaded_in_place_of_a_component_is_named(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    small.small_vae().save_pretrained(tmp_path / "model" / "vae")
    (weights,) = (tmp_path / "model" / "vae").glob("*.safetensors")
    weights.write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(CheckpointDamaged, match="it is a web page that a server sent in place of the file"):
        FolderComponents(tmp_path / "model").module("vae", AutoencoderKL, torch.float32)


@pytest.mark.parametrize(
    ("pickled", "why"), [(True, "pickles, which diffusers would run"), (False, "called like pickles, which diffusers")]
)
def test_pipelines_that_diffusers_loads_itself_need_suffixes_that_are_right(
    pickled: bool, why: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    small.small_vae().save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "AnotherPipeline", "vae": ["diffusers", "AutoencoderKL"]})
    )
    assert read_checkpoint(folder).can_generate
    rename(folder, pickled=pickled)
    found = read_checkpoint(folder)
    assert not found.can_generate and why in found.reason


def test_supported_text_encoders_are_those_that_a_family_has() -> None:
    """By the configurations that ship with the program; all others are refused when they are imported."""
    known = set()
    for family, requirements in REQUIREMENTS.items():
        for requirement in requirements:
            config = paths.resources() / "families" / family / requirement.component / "config.json"
            if requirement.component != "vae":
                known.add(identifying_shape(requirement.kind, json.loads(config.read_text())))
    assert len(known) == 6
    for shape in known:
        found = detect({"model.embed_tokens.weight": shape}, {})
        assert found.role is Role.TEXT_ENCODER and found.supported and found.reason.endswith(": a text encoder.")
    other = detect({"model.embed_tokens.weight": (128_256, 4096)}, {})
    assert not other.supported and other.reason.endswith("a text encoder that no supported model has.")
