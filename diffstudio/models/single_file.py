"""SingleFileParts: one `.safetensors` file, named as the model's makers or as diffusers name things, taken apart.

What such a file does not hold comes with the program: each family's configurations, in `resources/families/<family>/<part>/`, and
CLIP's vocabulary. How makers' names become diffusers' is diffusers' own table. Weights stay where the file lies until they are
cast, or first used.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors import safe_open
from torch import Tensor, nn

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint

_M = TypeVar("_M", bound=nn.Module)
State = dict[str, Tensor]
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_SCALES = (".scale_weight", ".weight_scale")         # beside fp8 weights: what they are to be multiplied by
_NOT_WEIGHTS = ("position_ids", "logit_scale", "scaled_fp8", ".scale_input", ".input_scale")
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_CLIP_MERGES = 49_152 - 256 - 2                      # of the lines in that file, those that CLIP uses

_PREFIXES = {                                        # of a part's tensors, the makers' names first
    "unet": ("model.diffusion_model.", "unet."),
    "transformer": ("model.diffusion_model.", "transformer.", "diffusion_model."),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.transformer.", "cond_stage_model.model.", "conditioner.embedders.0.transformer.",
                     "text_encoders.clip_l.transformer.", "text_encoder."),
    "text_encoder_2": ("conditioner.embedders.1.model.", "conditioner.embedders.0.model.", "text_encoders.clip_g.transformer.",
                       "text_encoder_2."),
    "text_encoder_3": ("text_encoders.t5xxl.transformer.", "text_encoder_3."),
}


class SingleFileParts:
    """`configs` is the folder of configurations: that of the checkpoint's family when none is given."""

    def __init__(self, checkpoint: Checkpoint, configs: Path | None = None) -> None:
        self.checkpoint = checkpoint
        self._configs = configs or paths.resources() / "families" / checkpoint.family
        try:
            self._file = safe_open(str(checkpoint.path), framework="pt")
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointDamaged(f"{checkpoint.path.name} cannot be read", str(error)[:200],
                                    "Get it again from where it came") from error
        self._names = list(self._file.keys())
        self._prefixes = {part: found for part in _PREFIXES if (found := self._prefix(part)) is not None}

    def has(self, name: str) -> bool:
        if name.startswith("tokenizer"):
            return self.has(name.replace("tokenizer", "text_encoder"))
        return name in self._prefixes or name == "scheduler"

    def config(self, name: str) -> Mapping[str, Any]:
        path = self._configs / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._missing(name) from None
        return config | self._own(name)

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        if name not in self._prefixes:
            raise self._missing(name)
        config = dict(self.config(name))
        module = _empty(kind, config)
        state = _converted(name, self._state(name), config, self._prefixes[name])
        wrapped = any(key.startswith("text_model.") for key in module.state_dict())
        if name.startswith("text_encoder") and not wrapped:
            state = {key.removeprefix("text_model."): value for key, value in state.items()}
        self._fill(module, {key: _cast(value, dtype) for key, value in state.items()}, name)
        return module.eval().requires_grad_(False)

    def tokenizer(self, name: str, kind: type[Any]) -> Any:
        """CLIP's, whose words come with the program. CheckpointMissing for another's."""
        if not kind.__name__.startswith("CLIP"):
            raise self._missing(name)
        words, merges = clip_vocabulary()
        open_clip = self.config(name.replace("tokenizer", "text_encoder"))["hidden_act"] == "gelu"
        return kind(vocab=dict(words), merges=list(merges), model_max_length=77, pad_token="!" if open_clip else "<|endoftext|>")

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _prefix(self, part: str) -> str | None:
        """Of that part's tensors; empty for a network that stands alone; None when the part is not there."""
        for prefix in _PREFIXES[part]:
            if any(name.startswith(prefix) for name in self._names):
                return prefix
        alone = {"unet": ("input_blocks.0.0.weight", "conv_in.weight"), "transformer": ("img_in.weight", "x_embedder.proj.weight")}
        return "" if any(name in self._names for name in alone.get(part, ())) else None

    def _state(self, part: str) -> State:
        prefix = self._prefixes[part]
        try:
            return {name: self._file.get_tensor(name) for name in self._names if name.startswith(prefix)}
        except safetensors.SafetensorError as error:
            raise CheckpointDamaged(f"{self.checkpoint.path.name} cannot be read", str(error)[:200],
                                    "Get it again from where it came") from error

    def _own(self, name: str) -> dict[str, Any]:
        """What this file does otherwise than its family's first."""
        match name:
            case "unet":
                first = next((key for key in self._names if key.endswith(("input_blocks.0.0.weight", "conv_in.weight"))
                              and key.startswith(self._prefixes.get("unet", ""))), None)
                channels = {"in_channels": self._file.get_slice(first).get_shape()[1]} if first else {}
                larger = self.checkpoint.family == "sd2" and self.checkpoint.prediction == "v"
                return channels | ({"sample_size": 96} if larger else {})
            case "scheduler":
                told = {"eps": "epsilon", "v": "v_prediction"}.get(self.checkpoint.prediction)
                return ({"prediction_type": told} if told else {}) | (
                    {"rescale_betas_zero_snr": True} if "ztsnr" in self._names else {})
            case _:
                return {}

    def _fill(self, module: nn.Module, state: State, name: str) -> None:
        expected = module.state_dict()
        wrong = next((key for key, value in expected.items() if key in state and state[key].shape != value.shape), None)
        missing = sorted(expected.keys() - state.keys())
        if missing or wrong:
            why = (f"{wrong} has the shape {tuple(state[wrong].shape)}, not {tuple(expected[wrong].shape)}" if wrong
                   else f"{missing[0]} is missing" + (f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""))
            raise CheckpointDamaged(f"The {name} of {self.checkpoint.path.name} is not whole", why, "Get it again from where it came")
        module.load_state_dict({key: state[key] for key in expected}, assign=True)

    def _missing(self, name: str) -> CheckpointMissing:
        return CheckpointMissing(f"{self.checkpoint.path.name} has no {name}", "the file does not hold it",
                                 f"Use a file that has it, or put the {name} of the same model beside it in a diffusers folder")


def _empty(kind: type[_M], config: dict[str, Any]) -> _M:
    """A module whose parameters take no room yet."""
    from accelerate import init_empty_weights
    from transformers import PretrainedConfig, PreTrainedModel

    build: Any = kind
    with init_empty_weights(include_buffers=False):
        if issubclass(kind, PreTrainedModel):
            described = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
            own: PretrainedConfig = build.config_class(**described)
            module: _M = build(own)
        else:
            module = build.from_config(config)
    return module


def _converted(part: str, state: State, config: dict[str, Any], prefix: str) -> State:
    """Under diffusers' names, in whichever way they were named; without what is no weight of this part."""
    state = _scaled({key: value for key, value in state.items() if not key.endswith(_NOT_WEIGHTS)})
    plain = {key.removeprefix(prefix): value for key, value in state.items()}
    if (convert := _CONVERTERS.get((part, prefix))) is not None and _makers(part, plain):
        return convert(plain, config)
    return plain


def _makers(part: str, plain: State) -> bool:
    """Whether these are the makers' names, not diffusers'."""
    signs = {"unet": "input_blocks.0.0.weight", "vae": "encoder.norm_out.weight"}
    return part not in signs or signs[part] in plain


def _unet(plain: State, config: dict[str, Any]) -> State:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    named = {f"model.diffusion_model.{key}": value for key, value in plain.items()}
    converted: State = convert_ldm_unet_checkpoint(named, config=config)
    return converted


def _vae(plain: State, config: dict[str, Any]) -> State:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    converted: State = convert_ldm_vae_checkpoint({f"first_stage_model.{key}": value for key, value in plain.items()}, config=config)
    return converted


def _open_clip(plain: State, config: dict[str, Any]) -> State:
    from types import SimpleNamespace

    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    hidden = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
    named = {f"cond_stage_model.model.{key}": value for key, value in plain.items() if key != "text_projection"}
    converted: State = convert_open_clip_checkpoint(hidden, named, prefix="cond_stage_model.model.")
    layers = config["num_hidden_layers"]
    kept = {key: value for key, value in converted.items() if not _beyond(key, layers)}
    if "text_projection" in plain:
        kept["text_projection.weight"] = plain["text_projection"].T.contiguous()
    return kept


def _beyond(key: str, layers: int) -> bool:
    """The last layer of an encoder that is read before it."""
    parts = key.split(".")
    return "layers" in parts and int(parts[parts.index("layers") + 1]) >= layers


_Convert = Callable[[State, dict[str, Any]], State]
_CONVERTERS: dict[tuple[str, str], _Convert] = {
    ("unet", "model.diffusion_model."): _unet, ("unet", ""): _unet,
    ("vae", "first_stage_model."): _vae, ("vae", "vae."): _vae,
    ("text_encoder", "cond_stage_model.model."): _open_clip,
    ("text_encoder_2", "conditioner.embedders.1.model."): _open_clip,
    ("text_encoder_2", "conditioner.embedders.0.model."): _open_clip,
}


def _scaled(state: State) -> State:
    """fp8 weights times their scales, where a file keeps scales beside them."""
    scales = {key.removesuffix(suffix): value for key, value in state.items() for suffix in _SCALES if key.endswith(suffix)}
    if not scales:
        return state
    weights = {key: value for key, value in state.items() if not key.endswith(_SCALES)}
    for layer, scale in scales.items():
        if (name := f"{layer}.weight") in weights:
            weights[name] = weights[name].float() * scale.float()
    return weights


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


@cache
def clip_vocabulary() -> tuple[Mapping[str, int], tuple[tuple[str, str], ...]]:
    """CLIP's words and their numbers, and the merges that make them (Radford et al. 2021): 256 bytes, each alone and at a word's end,
    then a word for every merge."""
    with gzip.open(paths.resources() / "families" / "clip" / _VOCABULARY, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1:_CLIP_MERGES + 1]
    merges = tuple((left, right) for left, _, right in (line.partition(" ") for line in lines))
    letters = _letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges),
             "<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}, merges


def _letters() -> list[str]:
    """A letter to print for each of the 256 bytes, those that have one first (Radford et al. 2019)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printed] + [chr(256 + number) for number in range(256 - len(printed))]
