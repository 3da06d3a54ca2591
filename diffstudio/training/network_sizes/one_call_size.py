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
_VAE_PASSES = 6  # encoder and decoder, forwards and twice as much backwards
_GAN_PASSES = 19  # generator and discriminator, with gradients of gradients


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


def with_image_size(recipe: Recipe, size: int) -> Recipe:
    """The recipe with square images of `size` px; of a VAE or GAN that is trained from scratch, the network follows.

    Its coarsest grid stays at about four cells per side, from which it composes a whole image, and blocks at full
    resolution do not become larger than 64 cells: at larger sizes, cells of several px are folded into channels.
    """
    data, network = replace(recipe.data, size=size), recipe.network
    if recipe.objective.kind is ObjectiveName.DIFFUSION or recipe.run.start_from or size == recipe.data.size:
        return replace(recipe, data=data)
    patch, stem = max(2, _power_of_two(size // _GRID)), network.stem
    if stem > 1:
        stem = max(1, _power_of_two(stem * size // recipe.data.size))
    while size // stem > _LARGEST_ACCELERATED:
        stem *= 2
    return replace(recipe, data=data, network=replace(network, patch=patch, stem=min(stem, patch)))


def _power_of_two(most: int) -> int:
    """The largest power of two up to a number; 1 below 1."""
    return 1 << max(0, most.bit_length() - 1)


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
    return condition + start + _gan_blocks(network) + (widths[0] + 1) * _folded_channels(recipe)


def one_call_bytes(recipe: Recipe, *, classes: int = 0) -> int:
    """Estimated bytes for training: weights, EMA weights, optimiser state, and activations for the backward pass."""
    network, widths = recipe.network, _widths(recipe.network)
    parameters = one_call_parameters(recipe, classes=classes, vocabulary=network.vocabulary)
    finest = recipe.data.size // network.stem
    values = sum(width * (finest >> level) ** 2 for level, width in enumerate(widths)) * network.depth
    if recipe.objective.kind is ObjectiveName.VAE:
        networks, kept = 1, 2 * 8 * values  # encoder and decoder, eight values per block
    else:
        networks, kept = 2, 3 * 3 * 6 * values  # real, generated and the generator; gradients of gradients
    return round(4 * (networks * parameters * (3 + _ADAM) + recipe.run.batch * kept))


def step_gigaflops(recipe: Recipe) -> float:
    """Billions of operations of a training step, about: those of the convolutions in the blocks."""
    network, finest = recipe.network, recipe.data.size // recipe.network.stem
    is_vae = recipe.objective.kind is ObjectiveName.VAE
    weights = [_vae_block(width) if is_vae else _gan_block(width) for width in _widths(network)]
    of_image = network.depth * sum(count * (finest >> level) ** 2 for level, count in enumerate(weights))
    passes = _VAE_PASSES if is_vae else _GAN_PASSES
    return 2 * passes * recipe.run.batch * of_image / 1e9


def _vae_block(width: int) -> int:
    return 18 * width**2


def _gan_block(width: int) -> int:
    return 4 * width**2 + 9 * 2 * width * gcd(16, 2 * width)


def _widths(network: NetworkRecipe) -> list[int]:
    """The same as `networks.one_call.OneCallConfig.widths`."""
    return [network.width * min(2**level, 4) for level in range((network.patch // network.stem).bit_length())]


def _folded_channels(recipe: Recipe) -> int:
    """The same as `networks.one_call.OneCallConfig.folded_channels`."""
    return recipe.data.form.channels * recipe.network.stem**2


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
    network, widths, channels = recipe.network, _widths(recipe.network), _folded_channels(recipe)
    grid = recipe.data.size // network.patch
    side = network.latent_grid or grid  # of the grid of latents
    condition, latent, prior = network.condition_width, network.latent, network.prior_width
    block = sum(_vae_block(width) + 6 * width + (condition + 1) * 2 * width for width in widths)
    encoder = (9 * channels + 1) * widths[0] + network.depth * block + 2 * widths[-1]
    encoder += (widths[-1] * (grid // side) ** 2 + 1) * 2 * latent
    from_latents = 9 if side == grid else grid**2  # weights for each latent and channel
    decoder = (from_latents * latent + 1) * widths[-1] + network.depth * block
    decoder += 2 * widths[0] + (9 * widths[0] + 1) * channels
    between = list(zip(widths, widths[1:], strict=False))
    encoder += sum(4 * before * after + after for before, after in between)
    decoder += sum(9 * before * after + before for before, after in between)
    values = latent * side**2
    flow = (_TIME_FEATURES + 1) * prior + (prior + 1) * prior + (condition + 1) * prior + (values + 1) * prior
    flow += network.prior_depth * (4 * prior * (prior + 1) + (2 * prior + 1) * prior) + (prior + 1) * values
    return encoder + decoder + flow


def _gan_blocks(network: NetworkRecipe) -> int:
    widths = _widths(network)
    blocks = sum(_gan_block(width) + 4 * width for width in widths)
    between = sum(a * b for a, b in zip(widths, widths[1:], strict=False) if a != b)
    return network.depth * blocks + between
