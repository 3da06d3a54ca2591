"""Network and image sizes of VAEs and GANs: the choice for a folder, parameters and memory. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.recipe import NetworkRecipe, Recipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName

AUGMENT_LABELS = 6  # width of the augmentation labels (Karras et al. 2022, app. F.2)
DIFF_AUGMENT_BELOW = 5000  # images
_DIFF_AUGMENT_FROM = 32  # px; it hides too much of smaller images: on the digits it made R3GAN collapse
_WIDER_UP_TO = 16  # px, up to which a wider network is cheap and gives better images
_TIME_FEATURES = 128  # of the flow prior's time embedding
_SMALLEST, _LARGEST, _LARGEST_ACCELERATED = 8, 32, 64  # px per side
_MANY_IMAGES = 2000  # from which a wider network is worthwhile with an accelerator
_GRID = 4  # cells per side of the coarsest grid
_ADAM = 2  # optimiser values per parameter


def with_one_call_size(recipe: Recipe, sides: Sequence[int], *, accelerator: bool) -> tuple[Recipe, str]:
    """The recipe of a VAE or GAN with an image size that suits the folder and the machine, and a clause that says why.

    `sides` are the longer sides of the folder's images in px. The size is their median, limited to what a processor or
    an accelerator trains in minutes. Other recipes are returned unchanged.
    """
    kind = recipe.objective.kind
    if kind is ObjectiveName.DIFFUSION or not sides:
        return recipe, ""
    median, most = sorted(sides)[len(sides) // 2], _LARGEST_ACCELERATED if accelerator else _LARGEST
    size = _SMALLEST
    while size < min(median, most):
        size *= 2
    patch = max(2, size // _GRID)
    if kind is ObjectiveName.VAE and size == _SMALLEST:
        patch = size // 2  # with more latents than half the pixels, little would be compressed
    network = replace(recipe.network, patch=patch)
    if kind is ObjectiveName.GAN and size <= _WIDER_UP_TO:
        network = replace(network, width=2 * network.width)
    if accelerator and len(sides) >= _MANY_IMAGES:
        network = replace(network, width=2 * network.width, depth=2)
    fits = "the median size of the images" if size >= median else "which trains in minutes on this machine"
    return replace(recipe, data=replace(recipe.data, size=size), network=network), f"{size} px, {fits}"


def with_diff_augment(recipe: Recipe, images: int) -> Recipe:
    """The recipe of a GAN with `auto` DiffAugment resolved by the number and size of the images."""
    if recipe.objective.kind is not ObjectiveName.GAN or recipe.objective.diff_augment != "auto":
        return recipe
    choice = "on" if images < DIFF_AUGMENT_BELOW and recipe.data.size >= _DIFF_AUGMENT_FROM else "off"
    return replace(recipe, objective=replace(recipe.objective, diff_augment=choice))


def one_call_parameters(recipe: Recipe, *, classes: int = 0, vocabulary: int = 0) -> int:
    """The number of parameters of `networks.autoencoder.Autoencoder` or `networks.gan.Generator`."""
    condition = _condition_parameters(recipe, classes, vocabulary)
    if recipe.objective.kind is ObjectiveName.VAE:
        return condition + _autoencoder_parameters(recipe)
    network, widths = recipe.network, _widths(recipe.network)
    grid = recipe.data.size // network.patch
    start = widths[-1] * (grid**2 + network.latent + network.condition_width)
    return condition + start + _gan_blocks(network) + (widths[0] + 1) * recipe.data.form.channels


def one_call_bytes(recipe: Recipe, *, classes: int = 0) -> int:
    """Estimated bytes for training: weights, EMA weights, optimiser state, and activations for the backward pass."""
    network, widths = recipe.network, _widths(recipe.network)
    parameters = one_call_parameters(recipe, classes=classes, vocabulary=network.vocabulary)
    values = sum(width * (recipe.data.size >> level) ** 2 for level, width in enumerate(widths)) * network.depth
    if recipe.objective.kind is ObjectiveName.VAE:
        networks, kept = 1, 2 * 8 * values  # encoder and decoder, eight values per block
    else:
        networks, kept = 2, 3 * 3 * 6 * values  # real, generated and the generator; gradients of gradients
    return round(4 * (networks * parameters * (3 + _ADAM) + recipe.run.batch * kept))


def _widths(network: NetworkRecipe) -> list[int]:
    """The same as `networks.one_call.OneCallConfig.widths`."""
    return [network.width * min(2**level, 4) for level in range(network.patch.bit_length())]


def _condition_parameters(recipe: Recipe, classes: int, vocabulary: int) -> int:
    width = recipe.network.condition_width
    count = AUGMENT_LABELS * width if recipe.data.augment_labels else 0
    match recipe.network.conditioning:
        case Conditioning.TEXT:
            return count + (vocabulary + recipe.network.text_tokens) * width + 3 * (width + 1) * width
        case Conditioning.CLASS:
            return count + (classes + 1) * width
        case Conditioning.NONE:
            return count


def _autoencoder_parameters(recipe: Recipe) -> int:
    network, widths, channels = recipe.network, _widths(recipe.network), recipe.data.form.channels
    condition, latent, prior = network.condition_width, network.latent, network.prior_width
    block = sum(18 * width**2 + 6 * width + (condition + 1) * 2 * width for width in widths)
    encoder = (9 * channels + 1) * widths[0] + network.depth * block + 2 * widths[-1] + (widths[-1] + 1) * 2 * latent
    decoder = (9 * latent + 1) * widths[-1] + network.depth * block + 2 * widths[0] + (9 * widths[0] + 1) * channels
    between = list(zip(widths, widths[1:], strict=False))
    encoder += sum(4 * before * after + after for before, after in between)
    decoder += sum(9 * before * after + before for before, after in between)
    values = latent * (recipe.data.size // network.patch) ** 2
    flow = (_TIME_FEATURES + 1) * prior + (prior + 1) * prior + (condition + 1) * prior + (values + 1) * prior
    flow += network.prior_depth * (4 * prior * (prior + 1) + (2 * prior + 1) * prior) + (prior + 1) * values
    return encoder + decoder + flow


def _gan_blocks(network: NetworkRecipe) -> int:
    widths = _widths(network)
    blocks = sum(4 * width**2 + 4 * width + 9 * 2 * width * gcd(16, 2 * width) for width in widths)
    between = sum(a * b for a, b in zip(widths, widths[1:], strict=False) if a != b)
    return network.depth * blocks + between
