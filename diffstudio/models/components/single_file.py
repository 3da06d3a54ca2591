"""SingleFileParts: one file of weights, named as the model's makers or as diffusers name things, taken apart.

What such a file does not hold comes with the program (each family's configurations, in `resources/families/<family>/<part>/`, and
CLIP's vocabulary) or lies elsewhere in the person's folders: see models/components/requirements.py. Weights are read one by one, when there is a
place for each.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import FolderComponents, empty, what_nonsense_raises
from diffstudio.models.components.requirements import NEEDS, PIECES, InFile, InFolder, Need, Place, found_in, missing
from diffstudio.models.components.search import Elsewhere, place_of_vae
from diffstudio.models.files.quantized import QuantizedLinear, QuantizedTensor
from diffstudio.models.files.quantized_reader import TensorRows, combine_rows, open_rows
from diffstudio.models.library.library import Library
from diffstudio.models.state_dicts.infer_config import derived
from diffstudio.models.state_dicts.to_diffusers import Recipe, Rows, recipe

_M = TypeVar("_M", bound=nn.Module)
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_CLIP_MERGES = 49_152 - 256 - 2  # of the lines in that file, those that CLIP uses
_NETWORKS = ("unet", "transformer")
_INSIDE = {
    "unet": ("model.diffusion_model.", "unet."),
    "transformer": ("model.diffusion_model.", "transformer.", "diffusion_model."),
}
_ALONE = {
    "unet": ("input_blocks.0.0.weight", "conv_in.weight"),
    "transformer": (
        "img_in.weight",
        "x_embedder.weight",
        "x_embedder.proj.weight",
        "pos_embed.proj.weight",
        "all_x_embedder.2-1.weight",
    ),
}
_UNUSED = ("model.visual", "lm_head")  # of language models that only read prompts: left out where they are not stored


class SingleFileComponents:
    """`configs` is the folder of configurations: that of the checkpoint's family when none is given.

    What the file lacks is looked for in the `library`; `vae` takes the place of its own autoencoder. The network's matrices stay as
    they are stored where unpacked they would take more than `dense_bytes`. `notes` says, in sentences, what came from elsewhere.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        configs: Path | None = None,
        library: Library | None = None,
        *,
        vae: Checkpoint | None = None,
        dense_bytes: float = float("inf"),
    ) -> None:
        self.checkpoint = checkpoint
        self.on_tensor: Callable[[float], None] = _nobody  # hears after each tensor how much of its part is there
        self._configs = configs or paths.resources() / "families" / checkpoint.family
        self._library, self._elsewhere, self._dense_bytes = library, Elsewhere(checkpoint, library), dense_bytes
        self._open: dict[Path, TensorRows] = {checkpoint.path: open_rows(checkpoint.path)}
        self._recipes: dict[str, Recipe] = {}
        self._places = self._own_places()
        self._lent: dict[str, Place] = {}
        if vae is not None:
            self._places["vae"] = self._lent["vae"] = place_of_vae(vae, self.checkpoint, self._usual("vae"))

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._lent:
            return ()
        whose = [f"the {self._title(part)} from {_where(place)}" for part, place in sorted(self._lent.items())]
        told = whose[0] if len(whose) == 1 else f"{', '.join(whose[:-1])} and {whose[-1]}"
        return (f"{told[0].upper()}{told[1:]} {'goes' if len(whose) == 1 else 'go'} with {self.checkpoint.name}.",)

    def complete(self) -> None:
        """CheckpointMissing that names everything its family needs and nobody has, with where it goes."""
        kinds = [need.kind for need in self._needs.values() if not need.optional and self._place(need.part) is None]
        for part, need in self._needs.items():
            if (
                (tokenizer := PIECES[need.kind].tokenizer)
                and (self._place(part) is not None or not need.optional)
                and self._tokenizer_folder(part) is None
            ):
                kinds.append(f"tokenizer-{tokenizer}")
        if kinds:
            raise missing(self.checkpoint, kinds, self._library)

    def has(self, name: str) -> bool:
        if name.startswith("tokenizer"):
            return self.has(name.replace("tokenizer", "text_encoder"))
        if name == "scheduler":
            return (self._configs / name).is_dir()
        return self._place(name) is not None

    def config(self, name: str) -> Mapping[str, Any]:
        place = self._place(name)
        if isinstance(place, InFolder):
            return FolderComponents(place.folder).config(place.component)
        return self._usual(name) | self._own(name)

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        place = self._place(name)
        if place is None:
            raise (
                missing(self.checkpoint, [self._needs[name].kind], self._library)
                if name in self._needs
                else self._nothing(name)
            )
        if isinstance(place, InFolder):
            return FolderComponents(place.folder).module(place.component, kind, dtype)
        try:
            module = empty(kind, dict(self.config(name)))
        except what_nonsense_raises() as error:
            raise self._not_whole(name, (str(error).splitlines() or [""])[0][:200], place.path) from error
        self._fill(module, name, place, dtype)
        return module.eval().requires_grad_(False)

    def tokenizer(self, name: str, kind: type[Any]) -> Any:
        """CLIP's, whose words come with the program, or another's from the person's folders. CheckpointMissing, CheckpointDamaged."""
        encoder = name.replace("tokenizer", "text_encoder")
        if kind.__name__.startswith("CLIP"):
            words, merges = clip_vocabulary()
            open_clip = self.config(encoder)["hidden_act"] == "gelu"
            return kind(
                vocab=dict(words),
                merges=list(merges),
                model_max_length=77,
                pad_token="!" if open_clip else "<|endoftext|>",
            )
        folder = self._tokenizer_folder(encoder)
        if folder is None:
            raise missing(self.checkpoint, [f"tokenizer-{PIECES[self._needs[encoder].kind].tokenizer}"], self._library)
        tokenizer = FolderComponents(folder.parent).tokenizer(folder.name, kind)
        tokenizer.chat_template = None  # it may be that of another model with the same words; families know their own
        return tokenizer

    # ---- where things are ----------------------------------------------------------------------------------------------

    @cached_property
    def _needs(self) -> dict[str, Need]:
        return {need.part: need for need in NEEDS[self.checkpoint.family]}

    def _own_places(self) -> dict[str, Place | None]:
        """What the file itself holds."""
        shapes, path = self._open[self.checkpoint.path].shapes, self.checkpoint.path
        found: dict[str, Place | None] = {}
        for part in _NETWORKS:
            prefixes = (prefix for prefix in _INSIDE[part] if any(name.startswith(prefix) for name in shapes))
            alone = "" if any(name in shapes for name in _ALONE[part]) else None
            if (prefix := next(prefixes, alone)) is not None:
                found[part] = InFile(path, prefix)
        for part, need in self._needs.items():
            if (prefix := found_in(need.kind, shapes, need.inside)) is not None:
                found[part] = InFile(path, prefix)
        return found

    def _place(self, part: str) -> Place | None:
        """Where a part lies: for an autoencoder first beside the checkpoint, then in it, then wherever one fits."""
        if part not in self._needs or part in self._lent:
            return self._places.get(part)
        if part == "vae" and part not in self._looked:
            self._looked.add(part)
            if (beside := self._elsewhere.beside(self._needs[part], self._usual(part))) is not None:
                self._places[part] = self._lent[part] = beside
        if part not in self._places:
            found = self._places[part] = self._elsewhere.find(self._needs[part], self._usual(part))
            if found is not None:
                self._lent[part] = found
        return self._places[part]

    @cached_property
    def _looked(self) -> set[str]:
        return set()

    def _tokenizer_folder(self, encoder: str) -> Path | None:
        if encoder not in self._tokenizers:
            config = self._usual(encoder)
            words = int(config.get("text_config", config)["vocab_size"])
            kind = PIECES[self._needs[encoder].kind].tokenizer
            self._tokenizers[encoder] = self._elsewhere.tokenizer(kind, words, self._place(encoder))
        return self._tokenizers[encoder]

    @cached_property
    def _tokenizers(self) -> dict[str, Path | None]:
        return {}

    def _title(self, part: str) -> str:
        return PIECES[self._needs[part].kind].title

    # ---- configurations ------------------------------------------------------------------------------------------------

    def _usual(self, name: str) -> dict[str, Any]:
        """That of the family's first, which comes with the program."""
        path = self._configs / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._nothing(name) from None
        return config

    def _own(self, name: str) -> dict[str, Any]:
        """What this file does otherwise than its family's first."""
        if name == "scheduler":
            told = {"eps": "epsilon", "v": "v_prediction"}.get(self.checkpoint.prediction)
            return ({"prediction_type": told} if told else {}) | (
                {"rescale_betas_zero_snr": True} if "ztsnr" in self._open[self.checkpoint.path].shapes else {}
            )
        place = self._place(name)
        if not isinstance(place, InFile):
            return {}
        weights = self._weights(place)
        shapes = {
            key: (sum(run.stop - run.start for run in rows), *weights.shapes[rows[0].name][1:])
            for key, rows in self._recipe(name, place).items()
        }
        larger = name == "unet" and self.checkpoint.family == "sd2" and self.checkpoint.prediction == "v"
        return derived(name, self.checkpoint.family, shapes, self._usual(name)) | (
            {"sample_size": 96} if larger else {}
        )

    # ---- weights -------------------------------------------------------------------------------------------------------

    def _weights(self, place: InFile) -> TensorRows:
        if place.path not in self._open:
            self._open[place.path] = open_rows(place.path)
        return self._open[place.path]

    def _recipe(self, name: str, place: InFile) -> Recipe:
        """Under the names that the part's module has, from the names in the file."""
        if name not in self._recipes:
            start = len(place.prefix)
            shapes = {
                key[start:]: shape for key, shape in self._weights(place).shapes.items() if key.startswith(place.prefix)
            }
            try:
                found = recipe(name, shapes, self._usual(name))
            except (KeyError, IndexError, ValueError, RuntimeError) as error:
                raise self._not_whole(name, f"{str(error).splitlines()[0][:120]} is missing") from error
            self._recipes[name] = {
                key: tuple(Rows(place.prefix + run.name, run.start, run.stop) for run in rows)
                for key, rows in found.items()
            }
        return self._recipes[name]

    def _fill(self, module: nn.Module, name: str, place: InFile, dtype: torch.dtype) -> None:
        rows = self._recipe(name, place)
        for unused in _UNUSED if name.startswith("text_encoder") else ():
            _leave_out(module, unused, rows)
        expected = module.state_dict()
        sources = {key: self._source(key, rows) for key in expected}
        self._check_whole(name, sources, expected)
        whole = sum(value.numel() for value in expected.values())
        packs = name in _NETWORKS and whole * dtype.itemsize > self._dense_bytes
        weights, state, done = self._weights(place), dict[str, Tensor](), 0
        for key, wanted in expected.items():
            found = self._value(key, wanted, sources[key], weights, dtype, packs and _is_linear(module, key))
            if isinstance(found, QuantizedTensor):
                _pack(module, key, found, dtype)
            elif found.shape != wanted.shape:
                raise self._not_whole(
                    name, f"{key} has the shape {tuple(found.shape)}, not {tuple(wanted.shape)}", place.path
                )
            else:
                state[key] = found
            done += wanted.numel()
            self.on_tensor(done / max(1, whole))
        module.load_state_dict(state, strict=False, assign=True)

    def _source(self, key: str, rows: Recipe) -> tuple[Rows, ...] | None:
        """transformers has called CLIP's tensors in two ways, and T5's words have two names."""
        for name in (key, f"text_model.{key}", key.removeprefix("text_model."), f"transformer.{key}"):
            if name in rows:
                return rows[name]
        return (
            rows.get("shared.weight" if key == "encoder.embed_tokens.weight" else "encoder.embed_tokens.weight")
            if key in ("encoder.embed_tokens.weight", "shared.weight")
            else None
        )

    def _check_whole(
        self, name: str, sources: Mapping[str, tuple[Rows, ...] | None], expected: Mapping[str, Tensor]
    ) -> None:
        absent = sorted(
            key for key, source in sources.items() if source is None and not _is_projection(key, expected[key])
        )
        if absent:
            more = f", and {len(absent) - 1:,} more" if len(absent) > 1 else ""
            place = self._places[name]
            raise self._not_whole(name, f"{absent[0]} is missing{more}", place.path if place is not None else None)

    def _value(
        self,
        key: str,
        wanted: Tensor,
        source: tuple[Rows, ...] | None,
        weights: TensorRows,
        dtype: torch.dtype,
        packed: bool,
    ) -> Tensor | QuantizedTensor:
        if source is None:
            return torch.eye(
                len(wanted), dtype=dtype
            )  # CLIP L without its projection, as SD3's makers read it in their own code
        found = combine_rows([weights.rows(run.name, run.start, run.stop) for run in source], dtype, packed)
        if isinstance(found, QuantizedTensor):
            return found
        if key.endswith("text_projection.weight") and source[0].name.endswith("text_projection"):
            return found.T.contiguous()  # OpenCLIP multiplies from the other side
        same = tuple(side for side in found.shape if side > 1) == tuple(side for side in wanted.shape if side > 1)
        return found.reshape(wanted.shape) if same else found  # a convolution of one pixel is a linear layer

    def _not_whole(self, name: str, why: str, path: Path | None = None) -> CheckpointDamaged:
        file = (path or self.checkpoint.path).name
        return CheckpointDamaged(f"The {name} of {file} is not whole", why, "Get it again from where it came")

    def _nothing(self, name: str) -> CheckpointDamaged:
        return CheckpointDamaged(
            f"{self.checkpoint.path.name} has no {name}",
            "the file does not hold it",
            "Choose another file of that model",
        )


class FolderWithVae(FolderComponents):
    """A diffusers folder whose autoencoder another takes the place of."""

    def __init__(self, checkpoint: Checkpoint, vae: Checkpoint) -> None:
        super().__init__(checkpoint.path)
        if checkpoint.family not in NEEDS:
            raise CheckpointUnknown(
                f"{checkpoint.name} draws with its own autoencoder alone",
                "its pipeline is diffusers' own",
                "Choose no other one for it",
            )
        self._place = place_of_vae(vae, checkpoint, self.config("vae"))
        self.notes = (f"{_where(self._place)} is the autoencoder of {checkpoint.name} now.",)
        self._other = (
            SingleFileComponents(replace(vae, family=checkpoint.family), checkpoint.path, vae=vae)
            if isinstance(self._place, InFile)
            else None
        )

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        if name != "vae":
            return super().module(name, kind, dtype)
        if self._other is not None:
            return self._other.module(name, kind, dtype)
        return FolderComponents(self._place.path.parent).module(self._place.path.name, kind, dtype)


def _where(place: Place) -> str:
    return place.path.name if isinstance(place, InFile) else f"{place.folder.name}/{place.component}"


def _is_projection(key: str, wanted: Tensor) -> bool:
    """CLIP's own last matrix, a square one."""
    return key == "text_projection.weight" and wanted.ndim == 2 and wanted.shape[0] == wanted.shape[1]


def _is_linear(module: nn.Module, key: str) -> bool:
    path, _, kind = key.rpartition(".")
    return kind == "weight" and type(module.get_submodule(path)) is nn.Linear


def _pack(module: nn.Module, key: str, packed: QuantizedTensor, dtype: torch.dtype) -> None:
    """In the place of a linear layer one that unpacks its matrix when it is used."""
    parent, _, child = key.removesuffix(".weight").rpartition(".")
    layer = module.get_submodule(key.removesuffix(".weight"))
    setattr(module.get_submodule(parent), child, QuantizedLinear(packed, layer.bias, dtype))  # type: ignore[arg-type]


def _leave_out(module: nn.Module, path: str, rows: Recipe) -> None:
    if any(name.startswith(f"{path}.") for name in rows):
        return
    parent, _, child = path.rpartition(".")
    holder: Any = module.get_submodule(parent) if not parent or hasattr(module, parent.split(".")[0]) else None
    if holder is not None and isinstance(getattr(holder, child, None), nn.Module):
        setattr(holder, child, nn.Identity())


def _nobody(share: float) -> None:
    """Hears what nobody asked for."""


@cache
def clip_vocabulary() -> tuple[Mapping[str, int], tuple[tuple[str, str], ...]]:
    """CLIP's words and their numbers, and the merges that make them (Radford et al. 2021): 256 bytes, each alone and at a word's end,
    then a word for every merge."""
    with gzip.open(paths.resources() / "families" / "clip" / _VOCABULARY, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _CLIP_MERGES + 1]
    merges = tuple((left, right) for left, _, right in (line.partition(" ") for line in lines))
    letters = _letters()
    words = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *(left + right for left, right in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return {word: number for number, word in enumerate(words)}, merges


def _letters() -> list[str]:
    """A letter to print for each of the 256 bytes, those that have one first (Radford et al. 2019)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printed] + [chr(256 + number) for number in range(256 - len(printed))]
