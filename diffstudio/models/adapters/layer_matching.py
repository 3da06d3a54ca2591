"""Match the layer names of LoRA files, in any naming, to the modules of a model in memory.

Each module is indexed under every name that trainers give it, with dots and underscores alike: diffusers' own, LDM's
and SGM's for U-Nets, and the original ones of FLUX.1, Stable Diffusion 3 and Z-Image, whose fused matrices (`qkv`) are
several modules here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from diffstudio.models.adapters.delta import RowRanges
from diffstudio.models.state_dicts.prefixes import LORA_PREFIXES, NETWORK, PEFT_PREFIX, underscored
from diffstudio.models.state_dicts.to_original import OUTER_KEYS, RESNET_KEYS


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """A module that a layer of a LoRA file applies to."""

    component: str
    module: str  # its path within the component
    rows: RowRanges | None = None  # the rows of the layer's matrix that apply to it; None for all of them in order


class LayerIndex:
    """The modules of a network and its text encoders, indexed by every name that LoRA files use for them."""

    def __init__(self, network: nn.Module, text_encoders: Mapping[str, nn.Module]) -> None:
        self._tables = {NETWORK: _table(NETWORK, network, _network_aliases(network))}
        for component, encoder in text_encoders.items():
            self._tables[component] = _table(component, encoder, _encoder_aliases(encoder))

    def match(self, layer: str) -> tuple[LayerMatch, ...]:
        """The modules that a layer of a LoRA file applies to: several for fused matrices, none if it lacks them."""
        return next(self.candidates(layer), ())

    def candidates(self, layer: str) -> Iterator[tuple[LayerMatch, ...]]:
        """All that a layer's name may mean, the likeliest first: PEFT calls every component `base_model.model`."""
        name = _plain(layer).removeprefix(underscored(PEFT_PREFIX))
        for prefix, components in LORA_PREFIXES:
            if name.startswith(prefix):
                for component in components:
                    if found := self._tables.get(component, {}).get(name[len(prefix) :]):
                        yield found


_LayerAlias = tuple[str, str, RowRanges | None]  # another name, the module's path, its rows of the fused matrix


def _plain(name: str) -> str:
    """The name with single underscores for dots, without the doubled and outer ones that some trainers write."""
    plain = underscored(name)
    stray = "__" in plain or plain.startswith("_") or plain.endswith("_")
    return re.sub("_{2,}", "_", plain).strip("_") if stray else plain


def _table(component: str, root: nn.Module, aliases: Iterator[_LayerAlias]) -> dict[str, tuple[LayerMatch, ...]]:
    table: dict[str, tuple[LayerMatch, ...]] = {}
    for name, path, rows in aliases:
        key = underscored(name)
        table[key] = (
            (*table.get(key, ()), LayerMatch(component, path, rows))
            if rows is not None
            else (LayerMatch(component, path),)
        )
    for path, _ in layers_of(root):
        table[underscored(path)] = (LayerMatch(component, path),)
        if path.endswith(".to_out.0"):  # older diffusers named the list of projection and dropout
            table[underscored(path[:-2])] = (LayerMatch(component, path),)
    return table


def layers_of(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The paths and modules of all layers that have a weight."""
    for path, module in root.named_modules():
        if module._parameters.get("weight") is not None:
            yield path, module


def _encoder_aliases(encoder: nn.Module) -> Iterator[_LayerAlias]:
    """CLIP's layers with and without `text_model.`, which transformers 5 dropped."""
    for path, _ in layers_of(encoder):
        yield (path.removeprefix("text_model.") if path.startswith("text_model.") else f"text_model.{path}"), path, None


def _network_aliases(network: nn.Module) -> Iterator[_LayerAlias]:
    paths = [path for path, _ in layers_of(network)]
    beginnings = {path.split(".")[0] for path in paths}
    if {"down_blocks", "up_blocks"} <= beginnings:
        yield from _unet_aliases(paths)
    elif "single_transformer_blocks" in beginnings:
        yield from _renamed(network, _FLUX)
        yield from _renamed(network, _XLABS)
    elif {"transformer_blocks", "pos_embed"} <= beginnings:
        yield from _renamed(network, _SD3)
    elif {"noise_refiner", "context_refiner"} <= beginnings:
        yield from _renamed(network, _Z_IMAGE)


# U-Nets: diffusers counts blocks, the original code counts layers.

_IN_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_IN_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def _unet_aliases(paths: list[str]) -> Iterator[_LayerAlias]:
    # Resnets of a block on the way down; one more on the way up.
    depth = 1 + max(
        int(match[4])
        for path in paths
        if (match := _IN_BLOCK.match(path)) and match[1] == "down" and match[3] == "resnets"
    )
    attended = {
        match[2] for path in paths if (match := _IN_BLOCK.match(path)) and match[1] == "up" and match[3] == "attentions"
    }
    for path in paths:
        if path in OUTER_KEYS:
            yield OUTER_KEYS[path], path, None
        elif match := _IN_MIDDLE.match(path):
            kind, index, inner = match.groups()
            number = 1 if kind == "attentions" else 2 * int(index)
            yield f"middle_block.{number}.{RESNET_KEYS.get(inner, inner)}", path, None
        elif match := _IN_BLOCK.match(path):
            way, block, kind, index, inner = match.groups()
            column = 1 if kind == "attentions" else 0
            if way == "down":
                number = (depth + 1) * int(block) + 1 + (depth if kind == "downsamplers" else int(index))
                inner = "op" if kind == "downsamplers" else RESNET_KEYS.get(inner, inner)
                yield f"input_blocks.{number}.{column}.{inner}", path, None
            else:
                number = (depth + 1) * int(block) + (depth if kind == "upsamplers" else int(index))
                column = (2 if block in attended else 1) if kind == "upsamplers" else column
                yield f"output_blocks.{number}.{column}.{RESNET_KEYS.get(inner, inner)}", path, None


# Transformers: diffusers' path, the original one, the chunk of a fused matrix, and whether scale and shift are swapped.


@dataclass(frozen=True, slots=True)
class _Rename:
    diffusers: str  # a regular expression; its group `which` is q, k or v
    original: str
    chunk: int | None = None  # the index in a fused matrix, plus that of `which`
    swapped: bool = False  # the two halves of modulations that have only two (diffusers' AdaLayerNormContinuous)


_EMBEDDERS = ("time_text_embed.timestep_embedder", "time_text_embed.text_embedder", "time_text_embed.guidance_embedder")
_FLUX = (
    _Rename(r"transformer_blocks\.(\d+)\.attn\.to_(?P<which>[qkv])", r"double_blocks.\1.img_attn.qkv", 0),
    _Rename(r"transformer_blocks\.(\d+)\.attn\.add_(?P<which>[qkv])_proj", r"double_blocks.\1.txt_attn.qkv", 0),
    _Rename(r"transformer_blocks\.(\d+)\.attn\.to_out\.0", r"double_blocks.\1.img_attn.proj"),
    _Rename(r"transformer_blocks\.(\d+)\.attn\.to_add_out", r"double_blocks.\1.txt_attn.proj"),
    _Rename(r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj", r"double_blocks.\1.img_mlp.0"),
    _Rename(r"transformer_blocks\.(\d+)\.ff\.net\.2", r"double_blocks.\1.img_mlp.2"),
    _Rename(r"transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj", r"double_blocks.\1.txt_mlp.0"),
    _Rename(r"transformer_blocks\.(\d+)\.ff_context\.net\.2", r"double_blocks.\1.txt_mlp.2"),
    _Rename(r"transformer_blocks\.(\d+)\.norm1\.linear", r"double_blocks.\1.img_mod.lin"),
    _Rename(r"transformer_blocks\.(\d+)\.norm1_context\.linear", r"double_blocks.\1.txt_mod.lin"),
    _Rename(r"single_transformer_blocks\.(\d+)\.attn\.to_(?P<which>[qkv])", r"single_blocks.\1.linear1", 0),
    _Rename(r"single_transformer_blocks\.(\d+)\.proj_mlp", r"single_blocks.\1.linear1", 3),
    _Rename(r"single_transformer_blocks\.(\d+)\.proj_out", r"single_blocks.\1.linear2"),
    _Rename(r"single_transformer_blocks\.(\d+)\.norm\.linear", r"single_blocks.\1.modulation.lin"),
    *(
        _Rename(rf"{re.escape(diffusers)}\.linear_{number}", f"{original}.{layer}_layer")
        for diffusers, original in zip(_EMBEDDERS, ("time_in", "vector_in", "guidance_in"), strict=True)
        for number, layer in ((1, "in"), (2, "out"))
    ),
    _Rename("context_embedder", "txt_in"),
    _Rename("x_embedder", "img_in"),
    _Rename(r"norm_out\.linear", "final_layer.adaLN_modulation.1", swapped=True),
    _Rename("proj_out", "final_layer.linear"),
)
# XLabs names the layers of its attention processors, whose single blocks leave the MLP in `linear1` alone.
_XLABS = (
    _Rename(r"transformer_blocks\.(\d+)\.attn\.to_(?P<which>[qkv])", r"double_blocks.\1.qkv1", 0),
    _Rename(r"transformer_blocks\.(\d+)\.attn\.add_(?P<which>[qkv])_proj", r"double_blocks.\1.qkv2", 0),
    _Rename(r"transformer_blocks\.(\d+)\.attn\.to_out\.0", r"double_blocks.\1.proj1"),
    _Rename(r"transformer_blocks\.(\d+)\.attn\.to_add_out", r"double_blocks.\1.proj2"),
    _Rename(r"single_transformer_blocks\.(\d+)\.attn\.to_(?P<which>[qkv])", r"single_blocks.\1.qkv", 0),
    _Rename(r"single_transformer_blocks\.(\d+)\.proj_out", r"single_blocks.\1.proj"),
)
_SD3 = (
    _Rename(r"transformer_blocks\.(\d+)\.(attn2?)\.to_(?P<which>[qkv])", r"joint_blocks.\1.x_block.\2.qkv", 0),
    _Rename(
        r"transformer_blocks\.(\d+)\.attn\.add_(?P<which>[qkv])_proj", r"joint_blocks.\1.context_block.attn.qkv", 0
    ),
    _Rename(r"transformer_blocks\.(\d+)\.(attn2?)\.to_out\.0", r"joint_blocks.\1.x_block.\2.proj"),
    _Rename(r"transformer_blocks\.(\d+)\.attn\.to_add_out", r"joint_blocks.\1.context_block.attn.proj"),
    _Rename(r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj", r"joint_blocks.\1.x_block.mlp.fc1"),
    _Rename(r"transformer_blocks\.(\d+)\.ff\.net\.2", r"joint_blocks.\1.x_block.mlp.fc2"),
    _Rename(r"transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj", r"joint_blocks.\1.context_block.mlp.fc1"),
    _Rename(r"transformer_blocks\.(\d+)\.ff_context\.net\.2", r"joint_blocks.\1.context_block.mlp.fc2"),
    _Rename(r"transformer_blocks\.(\d+)\.norm1\.linear", r"joint_blocks.\1.x_block.adaLN_modulation.1"),
    _Rename(
        r"transformer_blocks\.(\d+)\.norm1_context\.linear",
        r"joint_blocks.\1.context_block.adaLN_modulation.1",
        swapped=True,
    ),
    *(
        _Rename(rf"{re.escape(diffusers)}\.linear_{number}", f"{original}.mlp.{layer}")
        for diffusers, original in (
            ("time_text_embed.timestep_embedder", "t_embedder"),
            ("time_text_embed.text_embedder", "y_embedder"),
        )
        for number, layer in ((1, 0), (2, 2))
    ),
    _Rename(r"pos_embed\.proj", "x_embedder.proj"),
    _Rename(r"norm_out\.linear", "final_layer.adaLN_modulation.1", swapped=True),
    _Rename("proj_out", "final_layer.linear"),
)
_Z_IMAGE = (
    _Rename(r"(\w+\.\d+)\.attention\.to_(?P<which>[qkv])", r"\1.attention.qkv", 0),
    _Rename(r"(\w+\.\d+)\.attention\.to_out\.0", r"\1.attention.out"),
    _Rename(r"all_x_embedder\.2-1", "x_embedder"),
    _Rename(r"all_final_layer\.2-1\.(.+)", r"final_layer.\1"),
)


def _renamed(network: nn.Module, renames: tuple[_Rename, ...]) -> Iterator[_LayerAlias]:
    fused: dict[str, dict[int, tuple[str, int]]] = {}  # fused matrix -> its chunks, each with path and number of rows
    for path, module in layers_of(network):
        outs, ins = (module.out_features, module.in_features) if isinstance(module, nn.Linear) else (0, 0)
        for rename in renames:
            if match := re.fullmatch(rename.diffusers, path):
                name = match.expand(rename.original)
                if rename.chunk is not None:
                    chunk = rename.chunk + ("qkv".index(match["which"]) if "which" in match.groupdict() else 0)
                    fused.setdefault(name, {})[chunk] = path, outs
                elif rename.swapped and outs == 2 * ins:
                    yield name, path, ((ins, outs), (0, ins))
                else:
                    yield name, path, None
                break
    for name, chunks in fused.items():
        start = 0
        for _, (path, outs) in sorted(chunks.items()):
            yield name, path, ((start, start + outs),)
            start += outs
