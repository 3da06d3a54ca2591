"""What a recipe needs: parameters, memory, and whether its sizes go together. No torch is imported here."""

from __future__ import annotations

from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.network_sizes.one_call_size import AUGMENT_LABELS, one_call_bytes, one_call_parameters
from diffstudio.training.network_sizes.unet_size import unet_bytes, unet_parameters
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, Recipe, UpperRecipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName

_TIME_FEATURES = 256  # of the network's time embedding
_STATES = {  # values that an optimiser keeps for each parameter
    OptimiserName.MUON: 1.3,  # momentum of the matrices; two moments of the rest
    OptimiserName.ADAMW: 2,
    OptimiserName.ADAM: 2,
    OptimiserName.RMSPROP: 2,
    OptimiserName.SGD: 1,
}
_PROCESS_BYTES = 450 << 20  # of a process with torch and nothing else


def size_problem(recipe: Recipe) -> str:
    """Why no network can be built with these sizes, in a sentence; empty when one can."""
    network, side, kind = recipe.network, recipe.data.size, recipe.objective.kind
    if kind is not ObjectiveName.DIFFUSION and recipe.optimiser.name is OptimiserName.MUON:
        return f"Muon needs transformer blocks, which a {kind.value.upper()} does not have: choose another optimiser."
    if network.kind is NetworkName.UNET:
        if recipe.upper.factor and recipe.run.start_from:
            return (
                "The run starts from a U-Net, which has no upper level: choose a size in one level, or another start."
            )
        if recipe.upper.factor:
            return "A U-Net has no upper level: set its factor to 0, or choose a transformer."
        if side % network.multiple or side < network.multiple:
            levels = len(network.channels)
            return f"The size of {side} px cannot be halved {levels - 1} times, as a U-Net of {levels} levels needs."
        return ""
    if side % network.patch or side < network.patch:
        return f"The size of {side} px is not a multiple of the patch of {network.patch} px."
    if kind is not ObjectiveName.DIFFUSION:
        if network.stem > network.patch or network.stem & (network.stem - 1):
            return f"A finest cell of {network.stem} px is not a power of two up to the patch of {network.patch} px."
        return ""
    if network.width % network.heads or network.width // network.heads % 4:
        return f"A width of {network.width} does not split into {network.heads} heads of a multiple of 4."
    return _upper_problem(recipe) if recipe.upper.factor else ""


def _upper_problem(recipe: Recipe) -> str:
    upper, side = recipe.upper, recipe.prepared.size
    if side % upper.patch:
        return f"The size of {side} px of the upper level is not a multiple of its patch of {upper.patch} px."
    if upper.width % upper.heads or upper.width // upper.heads % 4:
        return (
            f"A width of {upper.width} of the upper level does not split into {upper.heads} heads of a multiple of 4."
        )
    return ""


def parameter_count(recipe: Recipe, *, classes: int = 0, vocabulary: int = 0) -> int:
    """The number of parameters of the network that generates images, equal to that of its class in `networks`."""
    if recipe.objective.kind is not ObjectiveName.DIFFUSION:
        return one_call_parameters(recipe, classes=classes, vocabulary=vocabulary)
    if recipe.network.kind is NetworkName.UNET:
        return unet_parameters(recipe, classes=classes, vocabulary=vocabulary)
    network = recipe.network
    width, condition = network.width, network.condition_width
    count = _transformer_parameters(network, recipe.data, reads=1)
    match network.conditioning:
        case Conditioning.TEXT:
            count += (vocabulary + network.text_tokens) * width
            count += (width + 1) * condition + (condition + 1) * condition
        case Conditioning.CLASS:
            count += (classes + 1) * condition + (condition + 1) * width
    if recipe.upper.factor:
        upper = recipe.upper
        count += _transformer_parameters(upper, recipe.prepared, reads=2)
        count += (
            _TIME_FEATURES + upper.condition_width + 2
        ) * upper.condition_width  # noise level of the smaller image
    return count


def _transformer_parameters(network: NetworkRecipe | UpperRecipe, data: DataRecipe, *, reads: int) -> int:
    """Of a pixel transformer without conditioning that reads so many images."""
    width, condition, channels = network.width, network.condition_width, data.form.channels
    patch = channels * (network.patch + 2 * network.margin) ** 2
    hidden = round(width * 8 / 3 / 32) * 32
    block = (condition + 1) * 6 * width + 4 * width**2 + 2 * (width // network.heads) + 3 * width * hidden
    count = reads * patch * network.bottleneck + (network.bottleneck + 1) * width  # from patches
    count += width * (data.size // network.patch) ** 2  # positions
    count += (_TIME_FEATURES + 1) * condition + (condition + 1) * condition
    count += network.depth * block
    count += (condition + 1) * 2 * width + (width + 1) * patch  # to patches
    return count + (AUGMENT_LABELS * condition if data.augment_labels else 0)


def memory_bytes(recipe: Recipe, *, classes: int = 0) -> int:
    """About what training takes: the process, weights, gradients, averages, optimiser, and what the backward pass needs.

    Every block keeps about 10 values as wide as the network and 3 as wide as its MLP for each token.
    """
    if recipe.objective.kind is not ObjectiveName.DIFFUSION:
        return one_call_bytes(recipe, classes=classes) + _PROCESS_BYTES
    network = recipe.network
    if network.kind is NetworkName.UNET:
        return unet_bytes(recipe, _STATES[recipe.optimiser.name], classes=classes) + _PROCESS_BYTES
    parameters = parameter_count(recipe, classes=classes, vocabulary=network.vocabulary)
    tokens = (recipe.data.size // network.patch) ** 2
    tokens += network.text_tokens if network.conditioning is Conditioning.TEXT else 1
    values = tokens * network.depth * network.width
    if recipe.upper.factor:  # of either level in turn
        upper = recipe.upper
        values = max(values, (recipe.prepared.size // upper.patch) ** 2 * upper.depth * upper.width)
    kept = recipe.run.batch * values * (10 + 3 * 8 / 3)
    weights = 4 if recipe.few_steps.enabled else 3  # with those of the teacher
    networks = 1 + recipe.data.cross_splits  # those of a cross-validation come before the run's own, which waits
    return round(4 * (networks * parameters * (weights + _STATES[recipe.optimiser.name]) + kept)) + _PROCESS_BYTES
