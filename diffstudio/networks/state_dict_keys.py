"""State-dict keys of the pixel transformer: how files written by version 0.1 are read. No torch.

Version 0.1 named the network's modules differently. Checkpoints (header format 1) and training states with its
keys stay readable for ever: each key is replaced when a file is read. New files have the current keys (header format
2). No key is both an old and a current one, so that replacing is safe for every file, and repeating it changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

_T = TypeVar("_T")

KEYS_OF_V0_1: Mapping[str, str] = {  # old key -> current key; `*` is the number of a block
    "positions": "pos_embed",
    "read_patches.0.weight": "patch_embed.proj1.weight",
    "read_patches.1.weight": "patch_embed.proj2.weight",
    "read_patches.1.bias": "patch_embed.proj2.bias",
    "condition.time.0.weight": "cond_embed.time_embed.0.weight",
    "condition.time.0.bias": "cond_embed.time_embed.0.bias",
    "condition.time.2.weight": "cond_embed.time_embed.2.weight",
    "condition.time.2.bias": "cond_embed.time_embed.2.bias",
    "condition.words.weight": "cond_embed.token_embed.weight",
    "condition.order": "cond_embed.token_pos_embed",
    "condition.meaning.0.weight": "cond_embed.text_embed.0.weight",
    "condition.meaning.0.bias": "cond_embed.text_embed.0.bias",
    "condition.meaning.2.weight": "cond_embed.text_embed.2.weight",
    "condition.meaning.2.bias": "cond_embed.text_embed.2.bias",
    "condition.labels.weight": "cond_embed.class_embed.weight",
    "condition.label_token.weight": "cond_embed.class_token.weight",
    "condition.label_token.bias": "cond_embed.class_token.bias",
    "condition.told.weight": "cond_embed.augment_embed.weight",
    "blocks.*.modulation.weight": "blocks.*.adaLN_modulation.weight",
    "blocks.*.modulation.bias": "blocks.*.adaLN_modulation.bias",
    "blocks.*.query_key_value.weight": "blocks.*.attn.qkv.weight",
    "blocks.*.query_scale": "blocks.*.attn.q_norm.weight",
    "blocks.*.key_scale": "blocks.*.attn.k_norm.weight",
    "blocks.*.attended.weight": "blocks.*.attn.proj.weight",
    "blocks.*.gate_and_value.weight": "blocks.*.mlp.w12.weight",
    "blocks.*.hidden.weight": "blocks.*.mlp.w3.weight",
    "last_modulation.weight": "final_layer.adaLN_modulation.weight",
    "last_modulation.bias": "final_layer.adaLN_modulation.bias",
    "write_patches.weight": "final_layer.linear.weight",
    "write_patches.bias": "final_layer.linear.bias",
}
_AVERAGED = "module."  # the prefix of torch's AveragedModel
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def current_key(key: str) -> str:
    """The current name of a tensor; a key that is not one of version 0.1 is returned as it is."""
    prefix = _AVERAGED if key.startswith(_AVERAGED) else ""
    name = key.removeprefix(prefix)
    block = _BLOCK.match(name)
    current = KEYS_OF_V0_1.get(_BLOCK.sub("blocks.*.", name, count=1))
    if current is None:
        return key
    return prefix + (current.replace("*", block[1]) if block is not None else current)


def with_current_keys(state_dict: Mapping[str, _T]) -> dict[str, _T]:
    """A state dict of any version under the current keys, in its own order."""
    return {current_key(key): value for key, value in state_dict.items()}


def in_stored_order(named_parameters: Iterable[tuple[str, _T]]) -> list[tuple[str, _T]]:
    """Parameters in the order by which training states number them for the optimisers.

    It is the order of registration, but for the query and key norms, which come first in their block: in version 0.1
    they were parameters of the block itself.
    """
    named = list(named_parameters)
    first: dict[str, int] = {}
    for index, (name, _) in enumerate(named):
        first.setdefault(_group(name), index)
    return sorted(named, key=lambda item: (first[_group(item[0])], "_norm." not in item[0]))  # stable


def _group(name: str) -> str:
    block = _BLOCK.match(name)
    return block[0] if block is not None else name
