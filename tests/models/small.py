"""Small random-weight pipelines with the real architectures, as diffusers itself builds and saves them.

Blocks, layers and the names of all weights are those of the real families; only the widths are small. Every builder
takes a folder to save to (None: nowhere) and returns diffusers' own pipeline, against which ours is held.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SIDE = 64  # px: what they were "trained" at, 8 × 8 latents
WORDS = ("red", "apple", "blue", "heart", "a", "photo", "of", "the", "cat", "dog", "green", "ugly", "sleeping")

SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def small_clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's own class: all bytes, alone and at a word's end, and merges that make the WORDS above one token each."""
    letters = [*_bytes(), *(byte + "</w>" for byte in _bytes())]
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges[(pieces[0], pieces[1])] = None
            pieces[:2] = ["".join(pieces[:2])]
    tokens = [*letters, *dict.fromkeys("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))},
        merges=list(merges),
        pad_token=pad,
        model_max_length=77,
    )


def _bytes() -> list[str]:
    """The printable stand-ins for the 256 bytes of byte-level BPE: Radford et al. 2019."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + extra) for extra in range(256 - len(plain))]


def small_clip(
    width: int = 32, layers: int = 3, *, act: str = "quick_gelu", projected: bool = False, seed: int = 1
) -> CLIPTextModel | CLIPTextModelWithProjection:
    tokenizer = small_clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        projection_dim=width,
        hidden_act=act,
        pad_token_id=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return _lively(kind(config))


def small_vae(channels: int = 4, scaling: float = 0.18215, seed: int = 2, **config: Any) -> AutoencoderKL:
    """Four levels as the real ones: 8 px of the image are one of the latent."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        latent_channels=channels,
        scaling_factor=scaling,
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=2,
        norm_num_groups=8,
        sample_size=SIDE,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **config,
    ).eval()


def small_unet(seed: int = 3, **config: Any) -> UNet2DConditionModel:
    """That of Stable Diffusion 1; `config` makes others of it."""
    torch.manual_seed(seed)
    defaults: dict[str, Any] = {
        "sample_size": SIDE // 8,
        "block_out_channels": (32, 32, 64, 64),
        "layers_per_block": 2,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**defaults | config).eval()


def _lively(encoder: Any) -> Any:
    """Transformers begins encoders near zero, where every prompt is the same; real ones tell their prompts apart."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return encoder.eval()


def scheduler(prediction: str = "epsilon", **config: Any) -> Any:
    return diffusers.DDIMScheduler(
        **SCHEDULER | {"clip_sample": False, "set_alpha_to_one": False, "prediction_type": prediction} | config
    )


def small_sd1(
    folder: Path | None = None, *, prediction: str = "epsilon", inpainting: bool = False, lcm: bool = False, **unet: Any
) -> Any:
    """Stable Diffusion 1: StableDiffusionPipeline, or StableDiffusionInpaintPipeline.

    `lcm` adds the embedding of guidance.
    """
    network = small_unet(in_channels=9 if inpainting else 4, time_cond_proj_dim=32 if lcm else None, **unet)
    steps = diffusers.LCMScheduler(**SCHEDULER) if lcm else scheduler(prediction)
    return _sd(folder, network, small_clip(), steps, inpainting)


def small_sd2(
    folder: Path | None = None, *, prediction: str = "v_prediction", inpainting: bool = False, **scheduling: Any
) -> Any:
    """Stable Diffusion 2: OpenCLIP's encoder without its last layer, linear projections, heads counted per level."""
    network = small_unet(
        in_channels=9 if inpainting else 4, attention_head_dim=(2, 4, 8, 8), use_linear_projection=True
    )
    return _sd(folder, network, small_clip(act="gelu"), scheduler(prediction, **scheduling), inpainting)


def _sd(folder: Path | None, network: UNet2DConditionModel, encoder: Any, steps: Any, inpainting: bool) -> Any:
    kind = diffusers.StableDiffusionInpaintPipeline if inpainting else diffusers.StableDiffusionPipeline
    return _saved(
        folder,
        kind(
            vae=small_vae(),
            text_encoder=encoder,
            tokenizer=small_clip_tokenizer(),
            unet=network,
            scheduler=steps,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ),
    )


def small_sdxl(
    folder: Path | None = None,
    *,
    prediction: str = "epsilon",
    inpainting: bool = False,
    lcm: bool = False,
    **scheduling: Any,
) -> Any:
    """Stable Diffusion XL base: two encoders, micro-conditioning by size, three levels."""
    network = small_unet(
        in_channels=9 if inpainting else 4,
        time_cond_proj_dim=32 if lcm else None,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        cross_attention_dim=32 + 40,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 40,
    )
    kind = diffusers.StableDiffusionXLInpaintPipeline if inpainting else diffusers.StableDiffusionXLPipeline
    steps = (
        diffusers.LCMScheduler(**SCHEDULER)
        if lcm
        else diffusers.EulerDiscreteScheduler(**SCHEDULER | {"prediction_type": prediction} | scheduling)
    )
    return _saved(
        folder,
        kind(
            vae=small_vae(scaling=0.13025),
            text_encoder=small_clip(32),
            tokenizer=small_clip_tokenizer(),
            text_encoder_2=small_clip(40, act="gelu", projected=True, seed=4),
            tokenizer_2=small_clip_tokenizer(pad="!"),
            unet=network,
            scheduler=steps,
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        ),
    )


def small_refiner(folder: Path | None = None) -> Any:
    """The refiner of Stable Diffusion XL: the second encoder alone, conditioned on an aesthetic score, four levels."""
    network = small_unet(
        block_out_channels=(32, 64, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4, 4, 4),
        transformer_layers_per_block=1,
        use_linear_projection=True,
        cross_attention_dim=40,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=5 * 8 + 40,
    )
    return _saved(
        folder,
        diffusers.StableDiffusionXLImg2ImgPipeline(
            vae=small_vae(scaling=0.13025),
            text_encoder=None,
            tokenizer=None,
            tokenizer_2=small_clip_tokenizer(pad="!"),
            text_encoder_2=small_clip(40, act="gelu", projected=True, seed=4),
            unet=network,
            scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULER),
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
            add_watermarker=False,
        ),
    )


def _saved(folder: Path | None, pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    if folder is not None:
        pipeline.save_pretrained(folder)
    return pipeline
