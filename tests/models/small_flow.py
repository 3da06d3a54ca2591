"""Small random-weight pipelines of the rectified-flow families, as diffusers itself builds and saves them; and both
sides' pictures.

As in `small.py`: blocks, layers and the names of all weights are those of the real families, only the widths are small.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5EncoderModel,
    T5Tokenizer,
    UMT5EncoderModel,
)

from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.model import Model
from diffstudio.networks.conditioning import Conditioning
from tests.models.sampled import sample
from tests.models.small import WORDS, _bytes, _lively, _saved, small_clip, small_clip_tokenizer, small_vae

WIDTH, HEIGHT = 96, 64  # px: not a square, 12 × 8 latents, 24 tokens
CPU = torch.device("cpu")


# ---- text encoders ---------------------------------------------------------------------------------------------------


def small_t5_tokenizer() -> T5Tokenizer:
    """T5's own class over the words of these tests, and letters for everything else."""
    special = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    words = (
        [("▁" + word, -1.0) for word in WORDS] + [("▁", -2.0)] + [(letter, -5.0) for letter in string.printable.strip()]
    )
    extra = [(f"<extra_id_{index}>", 0.0) for index in range(4)]
    return T5Tokenizer(vocab=special + words + extra, extra_ids=4, model_max_length=512)


def small_t5(width: int = 32, seed: int = 5, kind: Any = T5EncoderModel) -> Any:
    torch.manual_seed(seed)
    return _lively(
        kind(
            kind.config_class(
                vocab_size=len(small_t5_tokenizer()),
                d_model=width,
                d_kv=8,
                d_ff=2 * width,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                dense_act_fn="gelu_new",
                is_gated_act=True,
                pad_token_id=0,
                eos_token_id=1,
            )
        )
    )


def small_qwen_tokenizer() -> Qwen2Tokenizer:
    """Qwen's own class over all bytes, and merges that make the words of these tests one token each, after a space too."""
    merges: dict[tuple[str, str], None] = {}
    for word in (*WORDS, *("Ġ" + word for word in WORDS)):
        pieces = list(word)
        while len(pieces) > 1:
            merges[(pieces[0], pieces[1])] = None
            pieces[:2] = ["".join(pieces[:2])]
    tokens = dict.fromkeys(
        [*_bytes(), *("".join(pair) for pair in merges), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    )
    return Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=list(merges),
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHAT,
    )


# What Qwen 3's own template makes of one turn of a person and the request for an answer.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _language(width: int) -> dict[str, Any]:
    """What the language models of Qwen-Image and Z-Image have in common."""
    return {
        "vocab_size": len(small_qwen_tokenizer()),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def small_qwen_vl(seed: int = 8) -> Qwen2_5_VLForConditionalGeneration:
    """With its eyes, as Qwen-Image's folder has it, though only its ears are used."""
    torch.manual_seed(seed)
    return _lively(
        Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config=_language(32)
                | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}},
                vision_config={
                    "depth": 1,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_heads": 2,
                    "out_hidden_size": 32,
                    "fullatt_block_indexes": [0],
                },
                image_token_id=1,
                video_token_id=2,
                vision_start_token_id=3,
                vision_end_token_id=4,
            )
        )
    )


def small_qwen3(seed: int = 9) -> Qwen3Model:
    torch.manual_seed(seed)
    return _lively(Qwen3Model(Qwen3Config(**_language(32), head_dim=8)))


# ---- pipelines -------------------------------------------------------------------------------------------------------


def flow_vae(scaling: float, shift: float) -> Any:
    return small_vae(16, scaling, shift_factor=shift, use_quant_conv=False, use_post_quant_conv=False)


def small_flux(folder: Path | None = None, *, guidance: bool = True, **transformer: Any) -> diffusers.FluxPipeline:
    """FLUX.1 dev, or schnell without `guidance`."""
    torch.manual_seed(6)
    network = diffusers.FluxTransformer2DModel(
        **{
            "in_channels": 64,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 24,
            "guidance_embeds": guidance,
            "axes_dims_rope": (4, 6, 6),
        }
        | transformer
    )
    steps = FlowMatchEulerDiscreteScheduler(
        shift=3.0 if guidance else 1.0,
        use_dynamic_shifting=guidance,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    return _saved(
        folder,
        diffusers.FluxPipeline(
            scheduler=steps,
            vae=flow_vae(0.3611, 0.1159),
            text_encoder=small_clip(24),
            tokenizer=small_clip_tokenizer(),
            text_encoder_2=small_t5(),
            tokenizer_2=small_t5_tokenizer(),
            transformer=network.eval(),
        ),
    )


def small_sd3(folder: Path | None = None, *, t5: bool = True, newer: bool = False, **scheduling: Any) -> Any:
    """StableDiffusion3Pipeline: Stable Diffusion 3, or 3.5 medium with normalised queries and second attention if
    `newer`.
    """
    torch.manual_seed(7)
    network = diffusers.SD3Transformer2DModel(
        sample_size=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        caption_projection_dim=32,
        pooled_projection_dim=40,
        pos_embed_max_size=12,
        qk_norm="rms_norm" if newer else None,
        dual_attention_layers=(0, 1) if newer else (),
    )
    return _saved(
        folder,
        diffusers.StableDiffusion3Pipeline(
            transformer=network.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0} | scheduling),
            vae=flow_vae(1.5305, 0.0609),
            text_encoder=small_clip(16, projected=True),
            tokenizer=small_clip_tokenizer(),
            text_encoder_2=small_clip(24, act="gelu", projected=True, seed=4),
            tokenizer_2=small_clip_tokenizer(pad="!"),
            text_encoder_3=small_t5(48) if t5 else None,
            tokenizer_3=small_t5_tokenizer() if t5 else None,
        ),
    )


def small_qwen_image(folder: Path | None = None) -> Any:
    """QwenImagePipeline."""
    torch.manual_seed(10)
    network = diffusers.QwenImageTransformer2DModel(
        num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(4, 6, 6)
    )
    vae = diffusers.AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1)
    steps = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=0.9,
        base_image_seq_len=256,
        max_image_seq_len=8192,
        shift_terminal=0.02,
    )
    return _saved(
        folder,
        diffusers.QwenImagePipeline(
            scheduler=steps,
            vae=vae.eval(),
            text_encoder=small_qwen_vl(),
            tokenizer=small_qwen_tokenizer(),
            transformer=network.eval(),
        ),
    )


def small_z_image(folder: Path | None = None) -> Any:
    """ZImagePipeline."""
    torch.manual_seed(11)
    network = diffusers.ZImageTransformer2DModel(
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        axes_dims=[4, 6, 6],
        axes_lens=[256, 64, 64],
    )
    return _saved(
        folder,
        diffusers.ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=flow_vae(0.3611, 0.1159),
            text_encoder=small_qwen3(),
            tokenizer=small_qwen_tokenizer(),
            transformer=_lively(network),
        ),
    )


def small_pixart(folder: Path | None = None) -> Any:
    """PixArtSigmaPipeline: no family of ours; DPM++ over a variance-preserving schedule."""
    torch.manual_seed(12)
    network = diffusers.PixArtTransformer2DModel(
        sample_size=32,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=24,
        caption_channels=32,
    )
    return _saved(
        folder,
        diffusers.PixArtSigmaPipeline(
            tokenizer=small_t5_tokenizer(),
            text_encoder=small_t5(),
            vae=small_vae(),
            transformer=network.eval(),
            scheduler=diffusers.DPMSolverMultistepScheduler(),
        ),
    )


def small_auraflow(folder: Path | None = None) -> Any:
    """AuraFlowPipeline: no family of ours; a rectified flow."""
    torch.manual_seed(13)
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pos_embed_max_size=256,
    )
    return _saved(
        folder,
        diffusers.AuraFlowPipeline(
            tokenizer=small_t5_tokenizer(),
            text_encoder=small_t5(kind=UMT5EncoderModel),
            vae=small_vae(),
            transformer=_lively(network),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
        ),
    )


# ---- pictures --------------------------------------------------------------------------------------------------------


def checkpoint_of(folder: Path, family: str) -> Checkpoint:
    return Checkpoint(
        path=folder,
        name=folder.name,
        title=folder.name,
        family=family,
        conditioning=Conditioning.TEXT,
        classes=(),
        width=0,
        height=0,
        parameters=0,
        dtype="F32",
        size_bytes=0,
        origin=Origin.IMPORTED,
        modified=0.0,
    )


def ours(model: Model, prompts: list[str], *, negative: str = "", **settings: Any) -> Tensor:
    """The images [B,3,H,W] of our loop, seeds from 5 on, as diffusers would show them: clipped to [-1,1]."""
    seeds = range(5, 5 + len(prompts))
    settings = dict[str, Any](width=WIDTH, height=HEIGHT, steps=4, sampler="euler", spacing="uniform") | settings
    *_, last = sample(model, conditioning=model.encode_prompt(prompts, negative), seeds=seeds, **settings)
    return model.decode(last.x).clamp(-1, 1)


def theirs(pipeline: Any, prompts: list[str], **call: Any) -> Tensor:
    """The same images of diffusers' own pipeline."""
    generators = [torch.Generator().manual_seed(5 + index) for index in range(len(prompts))]
    call = {"width": WIDTH, "height": HEIGHT, "num_inference_steps": 4} | call
    images: Tensor = pipeline(list(prompts), generator=generators, output_type="pt", **call).images
    return images * 2 - 1


def difference(mine: Tensor, reference: Tensor) -> float:
    """Relative to the picture's own size: |mine - reference| / |reference|."""
    assert mine.shape == reference.shape
    assert reference.std() > 0.05  # a flat picture would be like any other
    return ((mine - reference).norm() / reference.norm()).item()
