"""Start a run from the weights of a checkpoint that was trained here, on another folder.

What the checkpoint knows is kept: its words, by a tokenizer that is joined with the folder's, and the classes whose names
recur. What it has no weights for starts as in a run from scratch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.errors import listed
from diffstudio.models.families import pixel_file
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.cascade import UPPER
from diffstudio.networks.unet import PixelNetwork
from diffstudio.training.channel_adapter import Mixing, mixing
from diffstudio.training.few_steps import cannot_tune
from diffstudio.training.recipe_from_checkpoint import cannot_start_from, check_prediction, starting_checkpoint
from diffstudio.training.trainer import Trainer

_MOST_NEW_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """A checkpoint to start from, as loaded."""

    name: str
    loaded: pixel_file.Loaded

    def tokenizer(self, captions: Iterable[str]) -> CaptionTokenizer | None:
        """The checkpoint's tokenizer with the words of the captions added; None where it reads no text."""
        known = self.loaded.tokenizer
        return known.extended(captions, _MOST_NEW_TOKENS) if known is not None else None

    def load_into(self, trainer: Trainer, tokenizer: CaptionTokenizer | None, classes: tuple[str, ...]) -> str:
        """Copy the weights into a new trainer; returns a sentence about parts without weights, or an empty string.

        The recipe's own sentence covers layers for other channels. RunProblem if the network has other layers.
        """
        check_prediction(self.name, self.loaded.parameterisation, trainer.recipe)
        mine = trainer.network.state_dict()
        channels = mixing(self.loaded.output, trainer.recipe.data.form)
        theirs = _with_channels(self.loaded.network.state_dict(), channels)
        if tokenizer is not None and self.loaded.tokenizer is not None and _TOKENS in theirs and _TOKENS in mine:
            theirs[_TOKENS] = _joined_rows(theirs[_TOKENS], self.loaded.tokenizer, tokenizer)
        if _CLASSES in theirs and _CLASSES in mine:
            theirs[_CLASSES] = _class_rows(mine[_CLASSES], theirs[_CLASSES], self.loaded.classes, classes)
        if _AUGMENT in mine and _AUGMENT not in theirs:
            theirs[_AUGMENT] = torch.zeros_like(mine[_AUGMENT])  # it knows no augmentation: as if there were none
        for name in (_POSITIONS, _TOKEN_POSITIONS):
            if name in theirs and name in mine:
                theirs[name] = _resized(theirs[name], mine[name])
        fitting = {name: value for name, value in theirs.items() if name in mine and value.shape == mine[name].shape}
        if 2 * sum(not name.startswith(UPPER) for name in fitting) < sum(not name.startswith(UPPER) for name in mine):
            raise cannot_start_from(self.name, "its network has other layers")
        trainer.begin_with(mine | fitting)
        new = [
            name for name in mine if name not in fitting and (channels is not None or name not in (*_READS, *_WRITES))
        ]
        parts = [what for prefix, what in _PARTS if any(name.startswith(prefix) for name in new)]
        without = self._without_weights(parts + (self._new_classes(classes) if _CLASSES in fitting else []))
        if trainer.recipe.few_steps.enabled:
            self._check_teacher(trainer, without)
            return self._lost_classes(classes)
        return without

    def _check_teacher(self, trainer: Trainer, without: str) -> None:
        """RunProblem unless the trainer's network equals this checkpoint's, which is its teacher."""
        mine, theirs = trainer.network, self.loaded.network
        assert isinstance(mine, PixelNetwork)
        size, wanted = theirs.config.image_size, mine.config.image_size
        if size != wanted:
            raise cannot_tune(
                self.name, f"it was trained at {size} px, and the recipe says {wanted} px", "Keep the size"
            )
        if without:
            raise cannot_tune(self.name, without.split(";")[0], "Keep the recipe's network, and its folder's classes")

    def _lost_classes(self, classes: tuple[str, ...]) -> str:
        kept = {name.casefold() for name in classes}
        lost = [name for name in self.loaded.classes if name.casefold() not in kept] if classes else []
        return (
            f"The distilled model no longer knows {', '.join(lost[:_MOST_NAMED])}, which the folder lacks."
            if lost
            else ""
        )

    def _new_classes(self, classes: tuple[str, ...]) -> list[str]:
        known = {name.casefold() for name in self.loaded.classes}
        return [f"the class {name}" for name in classes if name.casefold() not in known]

    def _without_weights(self, parts: list[str]) -> str:
        if not parts:
            return ""
        return f"{self.name} has no weights for {listed(parts, _MOST_NAMED)}; they are trained from scratch."


# Of a transformer [width, channels * positions], of a U-Net [width, channels, 3, 3].
_READS = ("patch_embed.proj1.weight", "unet.conv_in.weight")
# [channels * positions, …]
_WRITES = ("final_layer.linear.weight", "final_layer.linear.bias", "unet.conv_out.weight", "unet.conv_out.bias")
_TOKENS = "cond_embed.token_embed.weight"
_CLASSES = "cond_embed.class_embed.weight"
_AUGMENT = "cond_embed.augment_embed.weight"
_POSITIONS = "pos_embed"
_TOKEN_POSITIONS = "cond_embed.token_pos_embed"


_PARTS = (  # prefixes of parameters, and how messages name them
    ("patch_embed.", "reading patches of this size"),
    ("pos_embed", "positions"),
    ("cond_embed.t", "captions"),
    ("cond_embed.class", "classes"),
    ("blocks.", "some of the blocks"),
    ("final_layer.", "drawing patches of this size"),
    (UPPER, "the upper level"),
    ("unet.conv_in.", "reading these channels"),
    ("unet.conv_out.", "drawing these channels"),
    ("unet.", "some of its blocks"),
)
_MOST_NAMED = 6


def starting_point(name: str) -> StartingPoint:
    """The checkpoint at that path, or the included one of that name.

    CheckpointMissing, CheckpointDamaged, RunProblem for other models.
    """
    checkpoint = starting_checkpoint(name)
    return StartingPoint(checkpoint.name, pixel_file.load(checkpoint))


def _with_channels(weights: Mapping[str, Tensor], between: Mixing | None) -> dict[str, Tensor]:
    """The weights adapted to other channels; without those of the first and last layers if there is no map."""
    rest = {name: value for name, value in weights.items() if name not in (*_READS, *_WRITES)}
    if between is None:
        return rest
    to_known, to_wanted = torch.tensor(between.to_known), torch.tensor(between.to_wanted)
    for name in _READS:
        if name in weights:
            read = weights[name].flatten(1).unflatten(1, (len(to_known), -1))
            mixed = torch.einsum("wkp,kc->wcp", read, to_known).flatten(1)
            rest[name] = mixed.unflatten(1, (-1, *weights[name].shape[2:])) if weights[name].ndim == 4 else mixed
    for name in _WRITES:
        if name not in weights:
            continue
        writes = weights[name].unflatten(0, (to_wanted.shape[1], -1))
        rest[name] = torch.einsum("ck,k...->c...", to_wanted, writes).flatten(0, 1)
    return rest


def _joined_rows(rows: Tensor, known: CaptionTokenizer, joined: CaptionTokenizer) -> Tensor:
    """Embeddings of the joined tokenizer: those of known tokens; a new one is the sum of its parts' over root of count."""
    more = []
    for token in range(known.vocabulary, joined.vocabulary):
        parts = known.parts_of(token, joined)
        more.append(rows[parts].sum(dim=0) / len(parts) ** 0.5)
    return torch.cat([rows, torch.stack(more)]) if more else rows


def _class_rows(mine: Tensor, theirs: Tensor, known: tuple[str, ...], classes: tuple[str, ...]) -> Tensor:
    """Of classes with the same names, and the last row, which stands for no class; others are new."""
    row_of: Mapping[str, int] = {name.casefold(): index for index, name in enumerate(known)}
    rows = mine.clone()
    for index, name in enumerate(classes):
        if name.casefold() in row_of:
            rows[index] = theirs[row_of[name.casefold()]]
    rows[-1] = theirs[-1]
    return rows


def _resized(theirs: Tensor, mine: Tensor) -> Tensor:
    """Positions of images [1,D,rows,columns], interpolated, or of tokens [1,T,D], with new ones for more tokens."""
    if theirs.shape == mine.shape or theirs.ndim != mine.ndim:
        return theirs
    if theirs.ndim == 4:
        return F.interpolate(theirs, mine.shape[-2:], mode="bicubic", align_corners=False)
    rows = mine.clone()
    count = min(theirs.shape[1], mine.shape[1])
    rows[:, :count] = theirs[:, :count]
    return rows
