"""What an adapter file says about its layers outside their tensors: PEFT's config, diffusers' and kohya's metadata."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from diffstudio.models.state_dicts.prefixes import LORA_PREFIXES, NETWORKS, PEFT_PREFIX, TEXT_ENCODERS, underscored

_COMPONENTS = (*NETWORKS, *TEXT_ENCODERS)
_PEFT_KINDS = ("LORA", "LOHA", "LOKR", "OFT", "BOFT", "IA3")
# Initialisations of PEFT that change the base weights too, so that the adapter alone is only half of the change.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_PATTERN, _WHOLE = r"(.*\.)?({})$", r"(?:{})\Z"  # for the end of a module's path, and for all of it
_LONGEST_PATTERN, _LONGEST_NAME, _MOST_REPEATS = 300, 300, 3


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """What is known of one layer. The defaults are for a file without settings."""

    alpha: float | None = None  # None for a scale of 1
    rank: int = 0  # PEFT's r, which scales factors that have no rank too; 0 if unknown
    rslora: bool = False  # the scale is alpha / sqrt(rank)
    on_input: bool | None = None  # of IA3: whether it scales inputs; None if unknown
    neumann_terms: int = 5  # of OFT, PEFT's default; 0 for the exact Cayley transform
    halves_last_term: bool = True
    constrained_norm: float = 0.0  # of OFT's skew matrices; 0 for none
    whole_modules: bool = False  # plain weights in the file replace those of the model

    def scale(self, rank: int) -> float:
        """alpha / rank for factors of this rank, 0 for those without."""
        rank = rank or self.rank
        if self.alpha is None or not rank:
            return 1.0
        return self.alpha / (rank**0.5 if self.rslora else rank)


class PeftConfig:
    """PEFT's config of one component, read without trusting its types: a value of a wrong type counts as missing."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        kind = values.get("peft_type")
        self.kind = kind.upper() if isinstance(kind, str) else "LORA"

    @property
    def problem(self) -> str:
        """Why such an adapter cannot be applied; empty if it can."""
        if self.kind not in _PEFT_KINDS:
            return f"it is PEFT's {self.kind[:40]}, which is not supported"
        if self._values.get("layer_replication"):
            return "it repeats layers of the model (layer_replication)"
        start = self._values.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
            return f"it was trained on base weights changed by {start[:40]}; save it with PEFT's conversion to a plain LoRA"
        unusable = next((pattern for pattern in self._patterns() if _compiled(pattern) is None), None)
        return "" if unusable is None else f"its config has a pattern that cannot be used: {unusable[:60]}"

    def _patterns(self) -> Iterator[str]:
        """All regular expressions in it, as they are compiled."""
        for key in ("rank_pattern", "alpha_pattern"):
            patterns = self._values.get(key)
            yield from (_PATTERN.format(one) for one in (patterns if isinstance(patterns, dict) else ()))
        if isinstance(stored := self._values.get("feedforward_modules"), str):
            yield _WHOLE.format(stored)

    def of(self, module: str) -> LayerSettings:
        """The settings of the module at this path."""
        return LayerSettings(
            alpha=self._pattern("alpha_pattern", module, self._number("lora_alpha", self._number("alpha", 8.0))),
            rank=int(self._pattern("rank_pattern", module, self._number("r", 8.0))),
            rslora=self._values.get("use_rslora") is True,
            on_input=self._is_feedforward(module),
            neumann_terms=int(self._number("num_cayley_neumann_terms", 5))
            if self._flag("use_cayley_neumann", True)
            else 0,
            halves_last_term=self._version() >= (0, 18),
            constrained_norm=self._number("eps", 6e-5) if self._flag("coft", False) else 0.0,
            whole_modules=True,
        )

    def _number(self, key: str, default: float) -> float:
        return _finite(self._values.get(key), default)

    def _flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key)
        return value if isinstance(value, bool) else default

    def _pattern(self, key: str, module: str, default: float) -> float:
        """The value of the first pattern that fits the module, as PEFT's `get_pattern_key` finds it."""
        patterns = self._values.get(key)
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            if _matches(_PATTERN.format(pattern), module):
                return _finite(value, default)
        return default

    def _is_feedforward(self, module: str) -> bool | None:
        stored = self._values.get("feedforward_modules")
        if isinstance(stored, str):
            return _matches(_WHOLE.format(stored), module)
        if isinstance(stored, Sequence):
            return any(isinstance(ending, str) and module.endswith(ending) for ending in stored)
        return False if self.kind == "IA3" else None

    def _version(self) -> tuple[int, ...]:
        """The version of PEFT that saved it, which is stored since 0.18; (0, 0) if unknown."""
        found = re.match(r"(\d{1,4})\.(\d{1,4})", str(self._values.get("peft_version", "")))
        return (int(found[1]), int(found[2])) if found is not None else (0, 0)


def _finite(value: Any, default: float) -> float:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else default


def _matches(pattern: str, name: str) -> bool:
    """`re.match`. Patterns that could take very long, or are invalid, match nothing."""
    compiled = _compiled(pattern)
    return compiled is not None and len(name) <= _LONGEST_NAME and compiled.match(name) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    inner = pattern.removeprefix(r"(.*\.)?")
    if (
        len(pattern) > _LONGEST_PATTERN
        or re.search(r"\)[*+{]|\\\d", inner)
        or len(re.findall(r"[*+{]", inner)) > _MOST_REPEATS
    ):
        return None
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None


class FileSettings:
    """The settings of all layers of a file: from PEFT's config next to it, diffusers' metadata, or kohya's.

    kohya's `ss_network_alpha` counts only where the file has no alpha of its own.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None,
        metadata: Mapping[str, str],
        has_alphas: bool,
        layers: Collection[str],
        named_as_peft: bool = False,
    ) -> None:
        self._configs: dict[str, PeftConfig] = {}
        stored = config if config is not None else _json_object(metadata.get("lora_adapter_metadata", ""))
        for component in _COMPONENTS if config is None else ():
            inner = {key.partition(".")[2]: stored[key] for key in stored if key.startswith(f"{component}.")}
            if inner:
                self._configs[component] = PeftConfig(inner)
        if stored and not self._configs:
            self._configs[""] = PeftConfig(stored)
        self._saved_by_peft = any(layer.startswith(PEFT_PREFIX) for layer in layers)
        self._named_as_peft, self._has_alphas = named_as_peft, has_alphas
        self._kohya = (None, None) if has_alphas or self._configs else _kohya_alphas(metadata)

    @property
    def problem(self) -> str:
        return next((config.problem for config in self._configs.values() if config.problem), "")

    @property
    def has_config(self) -> bool:
        return bool(self._configs)

    def of(self, layer: str, is_convolution: bool = False) -> LayerSettings:
        component, _, module = layer.partition(".")
        if component in _COMPONENTS and component in self._configs:
            return self._configs[component].of(module)
        if "" in self._configs:
            return self._configs[""].of(layer.removeprefix(PEFT_PREFIX))
        alpha, of_convolutions = self._kohya
        return LayerSettings(
            of_convolutions if is_convolution and of_convolutions is not None else alpha,
            whole_modules=self._saved_by_peft,
        )

    def is_unknown(self, layer: str) -> bool:
        """Whether the layer's alpha is unknown: PEFT saved it, and PEFT's config is missing.

        Where PEFT's tensor names (`lora_A`) follow another program's prefix, diffusers' or ComfyUI's, alpha is the rank.
        """
        if self._configs or self._has_alphas or self._kohya[0] is not None:
            return False
        name = underscored(layer)
        with_prefix = any(prefix and name.startswith(prefix) for prefix, _ in LORA_PREFIXES)
        return layer.startswith(PEFT_PREFIX) or (self._named_as_peft and not with_prefix)


def _kohya_alphas(metadata: Mapping[str, str]) -> tuple[float | None, float | None]:
    """`ss_network_alpha`, and `conv_alpha` of `ss_network_args`; None where missing, and for 0, which means the rank."""
    return _alpha_from(metadata.get("ss_network_alpha")), _alpha_from(
        _json_object(metadata.get("ss_network_args", "")).get("conv_alpha")
    )


def _alpha_from(value: Any) -> float | None:
    try:
        alpha = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return alpha if math.isfinite(alpha) and alpha else None


def _json_object(text: str) -> dict[str, Any]:
    try:
        stored = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}
