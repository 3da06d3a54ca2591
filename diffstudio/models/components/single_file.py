"""The components of a single weight file, in the original, ComfyUI's or diffusers' naming.

What the file lacks ships with the program (each family's configurations, in `resources/families/<family>/<component>/`,
and CLIP's vocabulary) or is found in other model folders: see `components.search`. Weights are read one tensor at a
time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.clip_vocabulary import clip_vocabulary
from diffstudio.models.components.components import (
    BaseComponents,
    FolderComponents,
    empty_module,
    incomplete,
    invalid_config_errors,
)
from diffstudio.models.components.module_weights import WeightsMismatch, drop_unused, fill_module
from diffstudio.models.components.requirements import (
    COMPONENT_KINDS,
    REQUIREMENTS,
    ComponentLocation,
    FileLocation,
    FolderLocation,
    Requirement,
    listed,
    matching_prefix,
    missing_components_error,
)
from diffstudio.models.components.search import ComponentSearch, locate_vae
from diffstudio.models.files.file_access import first_line
from diffstudio.models.files.header import Headers
from diffstudio.models.files.quantized_reader import TensorRows, open_rows
from diffstudio.models.library.library import Library
from diffstudio.models.state_dicts.infer_config import infer_config
from diffstudio.models.state_dicts.prefixes import COMPONENT_PREFIXES, NETWORKS, find_prefix
from diffstudio.models.state_dicts.to_diffusers import KeyMap, RowSlice, key_map

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_M = TypeVar("_M", bound=nn.Module)
_T = TypeVar("_T", bound="PreTrainedTokenizerBase")


class SingleFileComponents(BaseComponents):
    """`Components` of a single file; what it lacks is searched in the `library`, and `vae` replaces its own VAE.

    `configs` is a folder of component configurations, by default the family's own. A network whose unpacked weights
    would take more than `dense_bytes` keeps its packed matrices (fp8, GGUF). `notes` names the components that come
    from other files, and a VAE next to the file that cannot be used. CheckpointMissing, CheckpointDamaged and
    CheckpointDangerous for a file that cannot be read.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        configs: Path | None = None,
        library: Library | None = None,
        *,
        vae: Checkpoint | None = None,
        dense_bytes: float = float("inf"),
        headers: Headers | None = None,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self._headers = headers = headers or Headers((*checkpoint.headers, *(vae.headers if vae is not None else ())))
        self._configs = configs or paths.resources() / "families" / checkpoint.family
        self._library, self._search = library, ComponentSearch(checkpoint, library, headers)
        self._dense_bytes = dense_bytes
        self._open: dict[Path, TensorRows] = {checkpoint.path: open_rows(checkpoint.path, headers.of(checkpoint.path))}
        self._key_maps: dict[str, KeyMap] = {}
        self._locations = self._own_locations()
        self._external: dict[str, ComponentLocation] = {}
        if vae is not None:
            self._locations["vae"] = self._external["vae"] = locate_vae(
                vae, self.checkpoint, self._default_config("vae"), headers
            )

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._external:
            return tuple(self._search.notes)
        found = [
            f"the {self._title(name)} from {_source_name(place)}" for name, place in sorted(self._external.items())
        ]
        return (f"{self.checkpoint.name} uses {listed(found)}.", *self._search.notes)

    def complete(self) -> None:
        """Check that every required component is in the file or in the model folders.

        CheckpointMissing names the others, and where to put them.
        """
        kinds = [
            requirement.kind
            for requirement in self._requirements.values()
            if not requirement.optional and self._location(requirement.component) is None
        ]
        for component, requirement in self._requirements.items():
            if (
                (tokenizer := COMPONENT_KINDS[requirement.kind].tokenizer)
                and (self._location(component) is not None or not requirement.optional)
                and self._tokenizer_folder(component) is None
            ):
                kinds.append(f"tokenizer-{tokenizer}")
        if kinds:
            raise missing_components_error(self.checkpoint, kinds, self._library)

    def has(self, name: str) -> bool:
        if name.startswith("tokenizer"):
            return self.has(name.replace("tokenizer", "text_encoder"))
        if name == "scheduler":
            return (self._configs / name).is_dir()
        return self._location(name) is not None

    def config(self, name: str) -> Mapping[str, Any]:
        place = self._location(name)
        if isinstance(place, FolderLocation):
            return FolderComponents(place.folder).config(place.component)
        return self._default_config(name) | self._config_overrides(name)

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        place = self._location(name)
        if place is None:
            raise (
                missing_components_error(self.checkpoint, [self._requirements[name].kind], self._library)
                if name in self._requirements
                else self._absent(name)
            )
        if isinstance(place, FolderLocation):
            return FolderComponents(place.folder, self._headers).module(place.component, kind, dtype)
        try:
            module = empty_module(kind, dict(self.config(name)))
        except invalid_config_errors() as error:
            raise self._incomplete(name, first_line(error), place.path) from error
        self._load_weights(module, name, place, dtype)
        return module.eval().requires_grad_(False)

    def tokenizer(self, name: str, kind: type[_T]) -> _T:
        """CLIP's, whose vocabulary ships with the program, or one from the model folders.

        CheckpointMissing, CheckpointDamaged.
        """
        encoder = name.replace("tokenizer", "text_encoder")
        if kind.__name__.startswith("CLIP"):
            vocabulary, merges = clip_vocabulary()
            open_clip = self.config(encoder)["hidden_act"] == "gelu"
            tokenizer: _T = kind(
                vocab=dict(vocabulary),
                merges=list(merges),
                model_max_length=77,
                pad_token="!" if open_clip else "<|endoftext|>",
            )
            return tokenizer
        folder = self._tokenizer_folder(encoder)
        if folder is None:
            raise missing_components_error(
                self.checkpoint,
                [f"tokenizer-{COMPONENT_KINDS[self._requirements[encoder].kind].tokenizer}"],
                self._library,
            )
        tokenizer = FolderComponents(folder.parent).tokenizer(folder.name, kind)
        tokenizer.chat_template = None  # may be another model's with the same vocabulary; families have their own
        return tokenizer

    # ---- locations of components -------------------------------------------------------------------------------------

    @cached_property
    def _requirements(self) -> dict[str, Requirement]:
        return {requirement.component: requirement for requirement in REQUIREMENTS[self.checkpoint.family]}

    def _own_locations(self) -> dict[str, ComponentLocation | None]:
        """The components that the file itself holds."""
        shapes, path = self._open[self.checkpoint.path].shapes, self.checkpoint.path
        found: dict[str, ComponentLocation | None] = {}
        for component in NETWORKS:
            if (prefix := find_prefix(self.checkpoint.family, component, shapes)) is not None:
                found[component] = FileLocation(path, prefix)
        for component, requirement in self._requirements.items():
            if (
                prefix := matching_prefix(
                    requirement.kind, shapes, COMPONENT_PREFIXES[self.checkpoint.family][component]
                )
            ) is not None:
                found[component] = FileLocation(path, prefix)
        return found

    def _location(self, component: str) -> ComponentLocation | None:
        """Where a component is: a VAE first next to the checkpoint, then in it; then the best match in the model
        folders.
        """
        if component not in self._requirements or component in self._external:
            return self._locations.get(component)
        if component == "vae" and component not in self._checked_neighbours:
            self._checked_neighbours.add(component)
            if (
                neighbour := self._search.next_to_checkpoint(
                    self._requirements[component], self._default_config(component)
                )
            ) is not None:
                self._locations[component] = self._external[component] = neighbour
        if component not in self._locations:
            found = self._locations[component] = self._search.find(
                self._requirements[component], self._default_config(component)
            )
            if found is not None:
                self._external[component] = found
        return self._locations[component]

    @cached_property
    def _checked_neighbours(self) -> set[str]:
        return set()

    def _tokenizer_folder(self, encoder: str) -> Path | None:
        if encoder not in self._tokenizers:
            config = self._default_config(encoder)
            vocab_size = int(config.get("text_config", config)["vocab_size"])
            kind = COMPONENT_KINDS[self._requirements[encoder].kind].tokenizer
            self._tokenizers[encoder] = self._search.tokenizer(kind, vocab_size, self._location(encoder))
        return self._tokenizers[encoder]

    @cached_property
    def _tokenizers(self) -> dict[str, Path | None]:
        return {}

    def _title(self, component: str) -> str:
        return COMPONENT_KINDS[self._requirements[component].kind].title

    # ---- configurations ----------------------------------------------------------------------------------------------

    def _default_config(self, name: str) -> dict[str, Any]:
        """The configuration of the family's first published checkpoint, which ships with the program."""
        path = self._configs / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._absent(name) from None
        return config

    def _config_overrides(self, name: str) -> dict[str, Any]:
        """Where this file differs from the default configuration, by the shapes of its tensors."""
        if name == "scheduler":
            prediction = {"eps": "epsilon", "v": "v_prediction"}.get(self.checkpoint.prediction)
            return ({"prediction_type": prediction} if prediction else {}) | (
                {"rescale_betas_zero_snr": True} if "ztsnr" in self._open[self.checkpoint.path].shapes else {}
            )
        place = self._location(name)
        if not isinstance(place, FileLocation):
            return {}
        weights = self._weights(place)
        shapes = {
            key: (sum(run.stop - run.start for run in rows), *weights.shapes[rows[0].name][1:])
            for key, rows in self._key_map(name, place).items()
        }
        larger = name == "unet" and self.checkpoint.family == "sd2" and self.checkpoint.prediction == "v"
        return infer_config(name, self.checkpoint.family, shapes, self._default_config(name)) | (
            {"sample_size": 96} if larger else {}
        )

    # ---- weights -----------------------------------------------------------------------------------------------------

    def _weights(self, place: FileLocation) -> TensorRows:
        if place.path not in self._open:
            self._open[place.path] = open_rows(place.path, self._headers.of(place.path))
        return self._open[place.path]

    def _key_map(self, name: str, place: FileLocation) -> KeyMap:
        """The module's keys, each with the rows of the file's tensors that it is made of."""
        if name not in self._key_maps:
            start = len(place.prefix)
            shapes = {
                key[start:]: shape for key, shape in self._weights(place).shapes.items() if key.startswith(place.prefix)
            }
            try:
                found = key_map(name, shapes, self._default_config(name))
            except (KeyError, IndexError, ValueError, RuntimeError) as error:
                why = f"{error.args[0]!s:.120} is missing" if isinstance(error, KeyError) else first_line(error)
                raise self._incomplete(name, why, place.path) from error
            self._key_maps[name] = {
                key: tuple(RowSlice(place.prefix + run.name, run.start, run.stop) for run in rows)
                for key, rows in found.items()
            }
        return self._key_maps[name]

    def _load_weights(self, module: nn.Module, name: str, place: FileLocation, dtype: torch.dtype) -> None:
        rows = self._key_map(name, place)
        if name.startswith("text_encoder"):
            drop_unused(module, rows)
        whole = sum(value.numel() for value in module.state_dict().values())
        keep_packed = name in NETWORKS and whole * dtype.itemsize > self._dense_bytes
        try:
            fill_module(module, rows, self._weights(place), dtype, keep_packed, self.on_tensor)
        except WeightsMismatch as error:
            raise self._incomplete(name, str(error), place.path) from error

    def _incomplete(self, name: str, why: str, path: Path | None = None) -> CheckpointDamaged:
        file = (path or self.checkpoint.path).name
        return CheckpointDamaged(incomplete(name, file), why, "Download it again")

    def _absent(self, name: str) -> CheckpointDamaged:
        return CheckpointDamaged(
            f"{self.checkpoint.path.name} has no {name}",
            "the file does not contain it",
            "Choose another file of that model",
        )


class FolderWithVae(FolderComponents):
    """A diffusers folder whose VAE is replaced by another."""

    def __init__(self, checkpoint: Checkpoint, vae: Checkpoint, headers: Headers | None = None) -> None:
        super().__init__(checkpoint.path, headers or Headers((*checkpoint.headers, *vae.headers)))
        if checkpoint.family not in REQUIREMENTS:
            raise CheckpointUnknown(
                f"{checkpoint.name} cannot use another VAE", "diffusers runs its pipeline", "Choose no VAE for it"
            )
        self._place = locate_vae(vae, checkpoint, self.config("vae"), self._headers)
        self._note = f"{checkpoint.name} uses the VAE from {_source_name(self._place)}."
        self._other = (
            SingleFileComponents(
                replace(vae, family=checkpoint.family), checkpoint.path, vae=vae, headers=self._headers
            )
            if isinstance(self._place, FileLocation)
            else None
        )

    @property
    def notes(self) -> tuple[str, ...]:
        return (self._note,)

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        if name != "vae":
            return super().module(name, kind, dtype)
        if self._other is not None:
            return self._other.module(name, kind, dtype)
        return FolderComponents(self._place.path.parent, self._headers).module(self._place.path.name, kind, dtype)


def _source_name(place: ComponentLocation) -> str:
    return place.path.name if isinstance(place, FileLocation) else f"{place.folder.name}/{place.component}"
