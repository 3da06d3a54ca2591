"""A network of every family, in every naming and under every prefix, is detected, split, fused with a LoRA, exported
and loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from diffstudio import paths
from diffstudio.errors import CheckpointMissing, CheckpointUnknown
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.components.single_file import SingleFileComponents
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.library.library import Library
from diffstudio.models.state_dicts.prefixes import (
    COMPONENT_PREFIXES,
    NETWORKS,
    ORIGINAL_NETWORK,
    TEXT_ENCODER_ROOTS,
    TEXT_ENCODERS,
    find_prefix,
    kind_of_root,
    root_of,
)
from diffstudio.models.state_dicts.split import split_components
from diffstudio.models.state_dicts.to_original import unet_to_original
from diffstudio.models.tools.export import export
from diffstudio.models.tools.fuse_lora import fuse_lora
from tests.models import adapter_files, headers, original_names, small_flow
from tests.models.small_files import BUILDERS, made, record, small_resources, worded

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2

State = dict[str, Tensor]
STABLE_DIFFUSION = ("sd1", "sd2", "sdxl", "sdxl_refiner")
BUILD: dict[str, Callable[..., Any]] = {
    **BUILDERS,
    "sd3": small_flow.small_sd3,
    "flux": small_flow.small_flux,
    "z_image": small_flow.small_z_image,
    "qwen_image": small_flow.small_qwen_image,
}
TO_ORIGINAL: dict[str, Callable[[State], State]] = {
    **dict.fromkeys(STABLE_DIFFUSION, unet_to_original),
    "sd3": original_names.sd3,
    "flux": original_names.flux,
    "z_image": original_names.z_image,
    "qwen_image": original_names.qwen_image,
}
PUBLISHED: dict[str, tuple[Callable[[], headers.Shapes], Callable[[], headers.Shapes]]] = {  # original, diffusers
    **{family: (partial(headers.ldm_unet, family), partial(headers.unet, family)) for family in STABLE_DIFFUSION},
    "sd3": (headers.mmdit_sd3, headers.sd3),
    "flux": (headers.bfl_flux, headers.flux),
    "z_image": (headers.comfy_z_image, headers.z_image),
    "qwen_image": (headers.qwen_image, headers.qwen_image),
}


def network_of(family: str) -> str:
    return next(component for component in NETWORKS if component in COMPONENT_PREFIXES[family])


CASES = [
    (family, naming)
    for family in BUILD
    for naming in (("diffusers",) if family == "qwen_image" else ("original", "diffusers"))
]


@dataclass(frozen=True)
class Small:
    """A family's small pipeline, saved as a diffusers folder, and its components' weights."""

    family: str
    folder: Path
    parts: dict[str, nn.Module]

    @property
    def component(self) -> str:
        return network_of(self.family)

    @property
    def network(self) -> State:
        return self.parts[self.component].state_dict()

    def tensors(self, naming: str, prefix: str) -> State:
        state = TO_ORIGINAL[self.family](self.network) if naming == "original" else self.network
        return {prefix + name: value.contiguous() for name, value in state.items()}

    def split(self, tensors: State) -> dict[str, State]:
        return split_components(tensors, self.family, FolderComponents(self.folder).config)

    def saved(self, path: Path, naming: str, prefix: str) -> Checkpoint:
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(self.tensors(naming, prefix), path)
        diffusers = naming == "diffusers" and prefix != ORIGINAL_NETWORK
        layout = Layout.DIFFUSERS if diffusers else Layout.ORIGINAL
        prediction = "v" if self.family == "sd2" else "eps" if self.family in STABLE_DIFFUSION else "flow"
        return record(path, self.family, role=Role.NETWORK, layout=layout, prediction=prediction)

    def lora(self, path: Path) -> Checkpoint:
        modules = adapter_files.layers(self.parts[self.component], "to_q")
        adapter_files.write(path, adapter_files.kohya("lora_unet", modules))
        return record(path, self.family, role=Role.LORA)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture
def small(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Small]]:
    """Builds each family once; the program's own configurations are those of the small pipeline."""

    def built(family: str) -> Small:
        folder = root / family / "folder"
        if family not in _BUILT:
            pipeline = BUILD[family]()
            pipeline = worded(pipeline) if family in STABLE_DIFFUSION else pipeline
            pipeline.save_pretrained(folder)
            small_resources(root / family / "resources", {family: folder})
            parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
            _BUILT[family] = Small(family, folder, parts)
        monkeypatch.setattr(paths, "resources", lambda: root / family / "resources")
        return _BUILT[family]

    yield built


_BUILT: dict[str, Small] = {}


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    yield
    _BUILT.clear()


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def plain(state: State) -> State:
    """CLIP's keys with or without `text_model.`, as transformers has had them."""
    return {name.removeprefix("text_model."): value for name, value in state.items()}


@pytest.mark.parametrize(("family", "naming"), CASES)
def test_a_published_network_is_detected_under_every_prefix(family: str, naming: str) -> None:
    shapes = PUBLISHED[family][naming == "diffusers"]()
    for prefix in COMPONENT_PREFIXES[family][network_of(family)]:
        found = detect(headers.below(prefix, shapes), {})
        assert (found.family, found.role) == (family, Role.NETWORK), (prefix, found.reason)


@pytest.mark.parametrize(("family", "naming"), CASES)
def test_a_network_is_split_loaded_and_fused_under_every_prefix(
    small: Callable[[str], Small], tmp_path: Path, family: str, naming: str
) -> None:
    it = small(family)
    lora = it.lora(tmp_path / "lora.safetensors")
    for number, prefix in enumerate(COMPONENT_PREFIXES[family][it.component]):
        tensors = it.tensors(naming, prefix)
        assert find_prefix(family, it.component, tensors) == prefix
        assert_network(it, it.split(tensors))

        checkpoint = it.saved(tmp_path / f"{number}.safetensors", naming, prefix)
        components = SingleFileComponents(checkpoint)
        assert [name for name in NETWORKS if components.has(name)] == [it.component], prefix
        module = components.module(it.component, type(it.parts[it.component]), torch.float32)
        assert_same(module.state_dict(), it.network)

        fused = made(fuse_lora(checkpoint, [(lora, 0.5)], tmp_path / f"fused-{number}.safetensors"))
        assert_network(it, it.split(safetensors.torch.load_file(fused.path)), lora, 0.5)


def assert_network(it: Small, found: dict[str, State], lora: Checkpoint | None = None, factor: float = 0.0) -> None:
    """The network alone, to the bit but for the layers that the LoRA changes."""
    assert list(found) == [it.component]
    matrices = safetensors.torch.load_file(lora.path) if lora is not None else {}
    changed = 0
    for name, value in it.network.items():
        key = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
        if f"{key}.lora_up.weight" in matrices:
            change = matrices[f"{key}.lora_up.weight"] @ matrices[f"{key}.lora_down.weight"] / 2  # alpha 1, rank 2
            torch.testing.assert_close(found[it.component][name], value + factor * change)
            changed += 1
        else:
            assert torch.equal(found[it.component][name], value), name
    assert changed == len(matrices) // 3


@pytest.mark.parametrize(("family", "naming"), CASES)
def test_a_bare_network_is_exported_and_loaded_with_the_librarys_components(
    small: Callable[[str], Small], tmp_path: Path, family: str, naming: str
) -> None:
    it = small(family)
    checkpoint, library = it.saved(tmp_path / "network.safetensors", naming, ""), Library([it.folder.parent])
    model: Any = loading.load(checkpoint, torch.device("cpu"), torch.float32, library=library)
    assert_same(model.network.state_dict(), it.network)
    assert_same(model.vae.state_dict(), it.parts["vae"].state_dict())
    if family not in STABLE_DIFFUSION:
        with pytest.raises(CheckpointUnknown, match="cannot be exported as a diffusers folder"):
            list(export(checkpoint, tmp_path / "exported"))
        return
    with pytest.raises(CheckpointMissing, match="has no vae"):
        list(export(checkpoint, tmp_path / "exported"))
    result = made(export(checkpoint, tmp_path / "exported", library=library))
    for component, part in it.parts.items():
        found = FolderComponents(result.path).module(component, type(part), torch.float32).state_dict()
        half = {name: value.half().float() for name, value in part.state_dict().items()}
        assert_same(found, it.network if component == it.component else half)


@pytest.mark.parametrize("family", BUILD)
def test_every_component_is_found_under_each_of_its_prefixes(small: Callable[[str], Small], family: str) -> None:
    it = small(family)
    for component, prefixes in COMPONENT_PREFIXES[family].items():
        state = it.parts[component].state_dict()
        for prefix in prefixes:
            found = it.split({prefix + name: value for name, value in state.items()})
            assert list(found) == [component], prefix
            assert_same(plain(found[component]), plain(state))


@pytest.mark.parametrize("family", ["sd3", "flux", "z_image", "qwen_image"])
def test_fusing_keeps_the_text_encoders_that_comfyui_saved(
    small: Callable[[str], Small], tmp_path: Path, family: str
) -> None:
    it = small(family)
    tensors = {
        COMPONENT_PREFIXES[family][component][0] + name: value.clone()
        for component, part in it.parts.items()
        for name, value in part.state_dict().items()
    }
    safetensors.torch.save_file(tensors, tmp_path / "whole.safetensors")
    checkpoint = record(tmp_path / "whole.safetensors", family, prediction="flow")
    fused = made(fuse_lora(checkpoint, [(it.lora(tmp_path / "lora.safetensors"), 1.0)], tmp_path / "fused.safetensors"))
    found = it.split(safetensors.torch.load_file(fused.path))
    assert found.keys() == it.parts.keys()
    for component in (*TEXT_ENCODERS, "vae"):
        if component in found:
            assert_same(plain(found[component]), plain(it.parts[component].state_dict()))


def test_roots_of_keys() -> None:
    for prefixes in COMPONENT_PREFIXES.values():
        for component, its in prefixes.items():
            kind = "network" if component in NETWORKS else "vae" if component == "vae" else "text_encoder"
            for prefix in its:
                assert kind_of_root(root_of(f"{prefix}conv_in.weight")) == kind, prefix
                assert kind != "text_encoder" or prefix.startswith(TEXT_ENCODER_ROOTS)
    assert root_of("conditioner.embedders.1.model.token_embedding.weight") == "conditioner.embedders.1"
