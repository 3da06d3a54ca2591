"""The sizes of VAEs and GANs: those that suit a folder, and what they need. No torch is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.recipe import NetworkRecipe, ObjectiveName, Recipe

AUGMENT_LABELS = 6  # width of the augmentation labels (Karras et al. 2022, app. F.2)
DIFF_AUGMENT_BELOW = 5000  # images
_DIFF_AUGMENT_FROM = 32  # px; of smaller images it leaves too little: on the digits it made R3GAN collapse
_WIDER_UP_TO = 16  # px, at which a wider network costs little and comes closer to the images
_TIME_FEATURES = 128  # of the flow prior's time embedding
_SMALLEST, _LARGEST, _LARGEST_ACCELERATED = 8, 32, 64  # px a side
_MANY_IMAGES = 2000  # for which a wider network is worth its time, with an accelerator
_GRID = 4  # cells a side of the coarsest grid
_ADAM = 2  # values that the optimiser keeps for each parameter


def with_one_call_size(recipe: Recipe, sides: Sequence[int], *, accelerator: bool) -> tuple[Recipe, str]:
    """A VAE's or GAN's recipe with the size that suits a folder and the machine, and why, a clause.

    `sides` are the longer sides of the folder's images in px.
    As large as half of the images are, up to what a processor, or an accelerator, trains in minutes. Other recipes are
    returned as they are.
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
        patch = size // 2  # more latents than half of its pixels would be no summary
    network = replace(recipe.network, patch=patch)
    if kind is ObjectiveName.GAN and size <= _WIDER_UP_TO:
        network = replace(network, width=2 * network.width)
    if accelerator and len(sides) >= _MANY_IMAGES:
        network = replace(network, width=2 * network.width, depth=2)
    fits = "as large as half of the images are" if size >= median else "which trains in minutes on this machine"
    return replace(recipe, data=replace(recipe.data, size=size), network=network), f"{size} px, {fits}"


def with_diff_augment(recipe: Recipe, images: int) -> Recipe:
    """A GAN's recipe with DiffAugment decided by the number of images and by their size."""
    if recipe.objective.kind is not ObjectiveName.GAN or recipe.objective.diff_augment != "auto":
        return recipe
    choice = "on" if images < DIFF_AUGMENT_BELOW and recipe.data.size >= _DIFF_AUGMENT_FROM else "off"
    return replace(recipe, objective=replace(recipe.objective, diff_augment=choice))


def one_call_parameters(recipe: Recipe, *, classes: int = 0, vocabulary: int = 0) -> int:
    """The parameters of `networks.autoencoder.Autoencoder`, or of `networks.gan.Generator`."""
    condition = _condition_parameters(recipe, classes, vocabulary)
    if recipe.objective.kind is ObjectiveName.VAE:
        return condition + _autoencoder_parameters(recipe)
    network, widths = recipe.network, _widths(recipe.network)
    grid = recipe.data.size // network.patch
    start = widths[-1] * (grid**2 + network.latent + network.condition_width)
    return condition + start + _gan_blocks(network) + (widths[0] + 1) * recipe.data.form.channels


def one_call_bytes(recipe: Recipe, *, classes: int = 0) -> int:
    """About what training takes besides the process: weights, averages, optimiser, and what the backward pass keeps."""
    network, widths = recipe.network, _widths(recipe.network)
    parameters = one_call_parameters(recipe, classes=classes, vocabulary=network.vocabulary)
    values = sum(width * (recipe.data.size >> level) ** 2 for level, width in enumerate(widths)) * network.depth
    if recipe.objective.kind is ObjectiveName.VAE:
        networks, kept = 1, 2 * 8 * values  # encoder and decoder, eight values in a block
    else:
        networks, kept = 2, 3 * 3 * 6 * values  # real, generated and the generator; gradients of gradients
    return round(4 * (networks * parameters * (3 + _ADAM) + recipe.run.batch * kept))


def _widths(network: NetworkRecipe) -> list[int]:
    """As `networks.one_call.OneCallConfig.widths`."""
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
