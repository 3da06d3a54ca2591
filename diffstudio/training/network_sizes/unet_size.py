"""Parameters and memory of U-Nets, from their recipe. No torch is imported here."""

from __future__ import annotations

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.network_sizes.one_call_size import AUGMENT_LABELS
from diffstudio.training.recipe import Recipe

_RESIDUAL_VALUES = 11  # kept for the backward pass by a residual block, per px and channel
_ATTENTION_VALUES, _CROSS_ATTENTION_VALUES = 8, 30  # by an attention layer, without and with text


def unet_parameters(recipe: Recipe, *, classes: int = 0, vocabulary: int = 0) -> int:
    """The number of parameters of `networks.unet.PixelUNet`."""
    network, image = recipe.network, recipe.data.form.channels
    widths, condition = network.channels, network.condition_width
    time, attends = 4 * widths[0], _attends(recipe)
    of_text = network.conditioning is Conditioning.TEXT

    def residual(before: int, after: int) -> int:
        shortcut = before * after + after if before != after else 0
        convolutions = 9 * before * after + after + 9 * after**2 + after
        return 2 * before + convolutions + (time + 1) * 2 * after + 2 * after + shortcut

    def attention(width: int) -> int:
        if not of_text:
            return 4 * (width**2 + width) + 2 * width
        blocks = 4 * width**2 + width + 2 * width**2 + 2 * condition * width + width  # self, cross
        return 2 * width + 2 * (width**2 + width) + blocks + 6 * width + 12 * width**2 + 9 * width

    count = (9 * image + 1) * widths[0] + (widths[0] + 1) * time + (time + 1) * time
    before = widths[0]
    skips = [before]
    for level, width in enumerate(widths):
        for layer in range(network.layers):
            count += residual(width if layer else before, width) + attends[level] * attention(width)
            skips.append(width)
        before = width
        if level < len(widths) - 1:
            count += 9 * width**2 + width
            skips.append(width)
    count += 2 * residual(before, before) + attention(before)
    for level in range(len(widths) - 1, -1, -1):
        width = widths[level]
        for _ in range(network.layers + 1):
            count += residual(before + skips.pop(), width) + attends[level] * attention(width)
            before = width
        count += 9 * width**2 + width if level else 0
    count += 2 * before + 9 * before * image + image
    match network.conditioning:
        case Conditioning.TEXT:
            count += (vocabulary + network.text_tokens) * condition
            count += 2 * condition + condition + 3 * (condition + 1) * condition  # pooled
            count += (condition + 1) * time + 2 * time
        case Conditioning.CLASS:
            count += (classes + 1) * time
    return count + (AUGMENT_LABELS * time if recipe.data.augment_labels else 0)


def unet_bytes(recipe: Recipe, states: float, *, classes: int = 0) -> int:
    """Approximate bytes that training takes: weights, gradients, averages, `states` for each parameter, and activations."""
    network, side = recipe.network, recipe.data.size
    parameters = unet_parameters(recipe, classes=classes, vocabulary=network.vocabulary)
    of_text = network.conditioning is Conditioning.TEXT
    per_attention = _CROSS_ATTENTION_VALUES if of_text else _ATTENTION_VALUES
    kept = 0
    for level, (width, attends) in enumerate(zip(network.channels, _attends(recipe), strict=True)):
        layers = 2 * network.layers + 1  # down and up
        kept += (side >> level) ** 2 * width * layers * (_RESIDUAL_VALUES + attends * per_attention)
    return round(4 * (parameters * (3 + states) + recipe.run.batch * kept))


def _attends(recipe: Recipe) -> list[bool]:
    """The same as `networks.unet.UNetConfig.attends`."""
    return [recipe.data.size >> level <= recipe.network.attention for level in range(len(recipe.network.channels))]
