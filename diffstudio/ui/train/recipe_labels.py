"""Labels and explanations for the settings of a training recipe."""

from __future__ import annotations

from typing import NamedTuple

from diffstudio.studio.metadata.sampler_names import SAMPLER_LABELS
from diffstudio.ui.train.recipe_options import NOISE_LEVELS, OPTIMISER_TIP, OPTIMISERS


class SettingText(NamedTuple):
    label: str
    explanation: str


SECTIONS = {
    "data": "Images",
    "network": "Network",
    "upper": "Upper level",
    "objective": "Objective",
    "few_steps": "Few steps",
    "optimiser": "Optimiser",
    "run": "Run",
}
_CHOICES = {  # labels of values that differ from their names
    **{str(name): text for name, text in SAMPLER_LABELS.items()},
    **{str(name): text for name, text in (*OPTIMISERS, *NOISE_LEVELS)},
    "auto": "Automatic",
    "bfloat16": "bfloat16",
    "float32": "float32",
    "log_snr": "Log-SNR",
    "r3gan": "R3GAN",
    "x0": "Clean image (x0)",
    "eps": "Noise (eps)",
    "v": "v",
    "edm": "EDM",
    "min_snr": "Min-SNR",
}
_OF_SAMPLES = "Used for samples, and as the default of the checkpoint"
_TEXTS = {
    "data.size": ("Image size (px)", "Width and height. With aspect buckets, the side of a square of the same area"),
    "data.background": ("Background colour", "Shown behind transparent pixels and padding, as #rrggbb"),
    "data.fit": (
        "Fit to size",
        "Crop the centre square, sort into aspect buckets, or pad to a square. Automatic: depends on the folder",
    ),
    "data.buckets": (
        "Aspect buckets (px)",
        "Widths and heights in turn. Empty: chosen from the folder's aspect ratios",
    ),
    "data.channels": ("Channels", "1 is grey, 3 is colour; other numbers are for arrays. 0: depends on the folder"),
    "data.alpha": ("Transparency as a channel", "Learn opacity as the last channel instead of drawing on a background"),
    "data.bits": ("Bits per value", "8 or 16. Automatic: depends on the folder"),
    "data.held_out": (
        "Held-out share",
        "Fraction of the images that is kept out of training, to measure generalisation",
    ),
    "data.sequences_together": (
        "Sequences together",
        "Hold out the frames of a film together or not at all: single frames would be known from their neighbours",
    ),
    "data.cross_splits": (
        "Cross-validation folds",
        "Networks that are trained first, each with another part of the images held out, to choose the number of steps. 0: off",
    ),
    "data.exclude": ("Excluded subfolders", "Names of subfolders to leave out, one per line"),
    "data.classes": ("Classes", "The subfolders that are classes"),
    "data.flips": (
        "Flips",
        "Probability of mirroring an image. Not suitable for text and for anything with a left and right",
    ),
    "data.rotation_degrees": ("Rotation (degrees)", "Largest random rotation in either direction"),
    "data.translation": ("Shifts", "Largest random shift in either direction, as a fraction of the side"),
    "data.ranges.uint16": (
        "Black and white, 16 bits",
        "The values of 16-bit files that become black and white. Empty: chosen from the folder's images",
    ),
    "data.ranges.integer": (
        "Black and white, other integers",
        "The values of files with signed or larger integers that become black and white",
    ),
    "data.ranges.floating": (
        "Black and white, floating point",
        "The values of floating-point files that become black and white",
    ),
    "data.augment_labels": (
        "Condition on augmentation",
        "The network gets the flip, rotation and shift of each image as a condition, so that samples are upright (EDM)",
    ),
    "data.masks": ("Masks", "Whether mask files weight the loss of their images, or are left out"),
    "data.unmasked_weight": (
        "Weight outside masks",
        "Weight of the loss where a mask is black; it is 1 where the mask is white",
    ),
    "data.channel_ranges": (
        "Range of each channel",
        "Lowest and highest value of each channel of an array, in turn. Empty: chosen from the folder",
    ),
    "network.conditioning": ("Conditioning", "Input of the network besides the noisy image: text, class or nothing"),
    "network.patch": ("Patch (px)", "Side of the squares that become tokens. Larger is faster and coarser"),
    "network.margin": ("Patch overlap (px)", "Overlap of the patches, which avoids visible seams"),
    "network.bottleneck": ("Patch bottleneck", "Width of the projection from a patch to a token"),
    "network.width": ("Width", "Features of each token. Divisible by the attention heads"),
    "network.depth": ("Depth", "Number of transformer blocks"),
    "network.heads": ("Attention heads", "Heads of each attention layer"),
    "network.condition_width": (
        "Condition width",
        "Width of the vector that modulates the blocks; in a U-Net, of the embedding of each caption token",
    ),
    "network.channels": (
        "Channels per level",
        "From full resolution down, each level at half the side. Multiples of 8. More channels learn more, but are slower",
    ),
    "network.layers": ("Blocks per level", "Residual blocks at each level on the way down; one more on the way up"),
    "network.attention": (
        "Attention up to (px)",
        "Levels of this side or smaller have attention, besides the middle of the network. 0: only the middle",
    ),
    "network.dropout": (
        "Dropout",
        "Probability of dropping a value that a block adds: small folders are copied less, but learning is slower",
    ),
    "network.vocabulary": ("Vocabulary", "Largest number of tokens of the caption tokenizer"),
    "network.text_tokens": (
        "Tokens per caption",
        "Longer captions are cut. Raised if the folder's captions are longer",
    ),
    "network.latent": (
        "Latent size",
        "For a VAE the latent channels of each patch, for a GAN the length of the noise vector",
    ),
    "network.latent_grid": (
        "Latent grid",
        "Of a VAE. 0: latents of each patch. 1: latents of the whole image, whose prior is learned sooner",
    ),
    "network.stem": (
        "Finest cell (px)",
        "Of a VAE or GAN: side of the cells that its finest blocks work on, a power of two. Larger is faster and coarser",
    ),
    "network.prior_width": ("Flow prior width", "Width of the small network that samples the latents of new images"),
    "network.prior_depth": ("Flow prior depth", "Number of its residual blocks"),
    "network.drop_condition": (
        "Condition dropout",
        "Probability of training without the caption or class, which CFG needs",
    ),
    "network.name_share": ("Captions cut to first tag", "Fraction of tag captions that are cut to the first tag"),
    "network.tags_share": (
        "Captions cut to some tags",
        "Fraction of tag captions that are cut to some tags, without the first",
    ),
    "upper.factor": (
        "Upper level",
        "A second network that enlarges the images of the first to 2 or 4 times their size. The folder is prepared at the "
        "larger size",
    ),
    "upper.noise": (
        "Noise augmentation",
        "Largest noise level that is added to the smaller image in training, so that flaws of generated images are not enlarged",
    ),
    "upper.mean": ("Mean noise level, upper level", "Mean of logit(t) of the larger image, with t = 1 pure noise"),
    "upper.deviation": ("Spread of noise levels, upper level", "Standard deviation of logit(t) of the larger image"),
    "upper.sample_noise": (
        "Noise augmentation of samples",
        "Noise level that is added to the smaller image in sampling. At most the noise augmentation",
    ),
    "upper.sample_steps": (
        "Sampling steps of the upper level",
        "Steps of the upper level, after those of the first network",
    ),
    "objective.noise_levels": ("Noise levels", "Distribution from which the noise level of each step is drawn"),
    "objective.noise_curve": (
        "Noise curve",
        "Of the noise levels Curve: time and log-SNR of each point in turn, from time 0, the clean image, to time 1. Draw "
        "and save one in the Lab, under Noise schedule",
    ),
    "objective.mean": ("Mean noise level", "Mean of logit(t), with t = 1 pure noise, or of log(sigma)"),
    "objective.deviation": ("Spread of noise levels", "Standard deviation of logit(t) or of log(sigma)"),
    "objective.free_bits": (
        "Free bits",
        "Nats per latent below which its KL divergence is not reduced further, so that fewer latents collapse",
    ),
    "objective.kl_warm_up": ("KL warm-up", "Share of the run over which the weight of the KL divergence rises to 1"),
    "objective.prior_draws": (
        "Prior draws",
        "Of a VAE: noise levels drawn for each latent in a step. More train the flow prior better in few steps",
    ),
    "objective.gan_loss": ("GAN loss", "R3GAN is stable. The non-saturating loss of 2014 collapses"),
    "objective.gamma": (
        "Initial gamma",
        "Weight of the gradient penalties R1 and R2. Raise it if training is unstable or images lack variety",
    ),
    "objective.gamma_end": ("Final gamma", "Gamma falls to this value with a cosine schedule"),
    "objective.penalty_every": (
        "Penalty interval",
        "R1 and R2 are computed in one of so many steps, with so many times their weight. Larger is faster",
    ),
    "objective.diff_augment": (
        "DiffAugment",
        "Augments the discriminator's real and generated inputs. Automatic: on for fewer than 5,000 images of 32 px or more",
    ),
    "objective.prediction": (
        "Prediction type",
        "The network predicts the clean image (x0), the velocity of the flow, the noise (eps), v, or EDM's preconditioned output",
    ),
    "objective.weighting": (
        "Loss weighting",
        "Weight of the squared error at each noise level. Automatic: the usual one for the prediction type",
    ),
    "objective.min_snr_gamma": ("Min-SNR gamma", "Largest weight, for Min-SNR loss weighting"),
    "objective.sigma_data": (
        "Data standard deviation",
        "Standard deviation (sigma) of the images, for EDM as prediction type or weighting",
    ),
    "objective.learned_variance": (
        "Learned variance",
        "Learn how large the loss is at each noise level and divide by it, so that all levels count equally",
    ),
    "objective.perceptual": (
        "Perceptual loss",
        "Weight of the distance between estimates and images in features of a network that was trained on photographs",
    ),
    "objective.sigma_floor": (
        "Smallest sigma in the loss",
        "Lower bound of the divisor when the velocity is computed from the clean image",
    ),
    "few_steps.segments": (
        "Segments",
        "Parts of the noise levels, one sampling step each. 1: a consistency model, for LCM with any number of steps",
    ),
    "few_steps.teacher_calls": ("Teacher's network calls", "Network calls with which the teacher solves each path"),
    "few_steps.points": ("States per path", "States on each path that the network is trained on in a step"),
    "few_steps.guidance": ("CFG scale built in", "By default, the scale that the teacher recommends"),
    "few_steps.guidance_interval": (
        "Guidance interval built in",
        "Noise levels between which the teacher uses guidance",
    ),
    "few_steps.min_timestep": ("Teacher's minimum timestep", "The teacher is called with no smaller t"),
    "optimiser.name": ("Optimiser", OPTIMISER_TIP),
    "optimiser.learning_rate": (
        "Learning rate",
        "For every optimiser except Muon, and for the weights that Muon does not update",
    ),
    "optimiser.muon_learning_rate": ("Muon learning rate", "For the matrices of the blocks, with Muon"),
    "optimiser.weight_decay": ("Weight decay", "Decoupled, as in AdamW"),
    "optimiser.betas": ("Betas", "Decay of the running averages of gradient and squared gradient, for Adam and AdamW"),
    "optimiser.momentum": ("Momentum", "For Muon, RMSprop and SGD"),
    "optimiser.muon_dtype": ("Muon precision", "Data type of Muon's computations. Automatic: the faster one"),
    "optimiser.warm_up_steps": ("Warm-up steps", "Steps over which the learning rate rises from 0"),
    "optimiser.decay": ("Learning rate decay", "How the learning rate falls at the end"),
    "optimiser.decay_share": ("Decay share", "Last fraction of the run, over which the learning rate falls to 0"),
    "optimiser.clip_norm": ("Gradient clipping", "Gradients with a larger norm are scaled down to it"),
    "optimiser.ema": ("EMA decay", "Decay of the moving average of the weights, which the checkpoint stores"),
    "run.patience": (
        "Patience",
        "Stop after this many held-out losses without a new minimum. 0: never. -1: automatic, only with a training time",
    ),
    "run.batch": ("Batch size", "Images per step. Larger batches need more memory"),
    "run.seed": ("Seed", "Seed of all random numbers of the run"),
    "run.dtype": ("Precision", "Data type of the network. Automatic: the fastest, measured when the run starts"),
    "run.device": ("Device", "Device for torch: auto, cpu, cuda, mps or xpu"),
    "run.threads": ("CPU threads", "0: one per core"),
    "run.compile": ("Compile (torch.compile)", "Faster steps on a CUDA device, after a minute of compiling"),
    "run.sample_every": ("Steps between samples", "How often a sheet of samples is generated"),
    "run.sample_count": ("Samples per sheet", "Number of images in a sheet of samples"),
    "run.checkpoint_every": ("Steps between checkpoints", "How often a checkpoint is written"),
    "run.ema_snapshots": (
        "EMA snapshots",
        "How often averages are stored, from which an EMA of any length can be rebuilt after the run. 0: never",
    ),
    "run.keep_checkpoints": ("Checkpoints kept", "Besides the best and the newest, evenly spaced over the run"),
    "run.start_from": (
        "Start from",
        "Path of the checkpoint to start from, starter or four-styles. Empty: random weights",
    ),
    "run.held_out_every": ("Steps between held-out losses", "How often the loss on held-out images is measured"),
    "run.prompts": ("Sample prompts", "Prompts of the samples, one per line. Empty: captions of the folder"),
    "run.sample_steps": ("Sampling steps", _OF_SAMPLES),
    "run.sample_sampler": ("Sampler", _OF_SAMPLES),
    "run.sample_spacing": ("Scheduler", _OF_SAMPLES),
    "run.sample_guidance": ("CFG scale", _OF_SAMPLES),
    "run.sample_min_timestep": (
        "Minimum timestep",
        "The network is called with no smaller t, so that it removes the noise that its own errors add. -1: chosen by images",
    ),
}
_OF_THE_UPPER_LEVEL_TOO = {"network": ("patch", "margin", "bottleneck", "width", "depth", "heads", "condition_width")}
_TEXTS |= {
    f"upper.{name}": (f"{_TEXTS[f'{section}.{name}'][0]}, upper level", _TEXTS[f"{section}.{name}"][1])
    for section, names in _OF_THE_UPPER_LEVEL_TOO.items()
    for name in names
}
SETTINGS = {name: SettingText(*text) for name, text in _TEXTS.items()}


def choice_text(name: str, value: object) -> str:
    """The label of one of the values of a setting."""
    text = str(value)
    if name == "data.bits" and not value:
        return _CHOICES["auto"]
    if name == "upper.factor":
        return f"{text} ×" if value else "None"
    return _CHOICES.get(text) or text.replace("_", " ").capitalize()
