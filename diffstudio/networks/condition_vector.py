"""ConditionVector: the condition of an image as one vector, for the networks that generate an image in one call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition


class ConditionVector(nn.Module):
    """Embeds the Condition of B images as [B,width]; zeros if the network is unconditional.

    The tokens of a caption get position embeddings before they are averaged, so their order matters.
    """

    def __init__(
        self,
        width: int,
        conditioning: Conditioning,
        *,
        num_classes: int = 0,
        vocab_size: int = 0,
        text_tokens: int = 0,
        augment_dim: int = 0,
    ) -> None:
        super().__init__()
        self.width, self.conditioning = width, conditioning
        self.num_classes, self.augment_dim = num_classes, augment_dim
        if conditioning is Conditioning.TEXT:
            self.token_embed = nn.Embedding(vocab_size, width)
            self.token_pos_embed = nn.Parameter(0.02 * torch.randn(1, text_tokens, width))
            self.token_proj = nn.Linear(width, width)
            self.text_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            nn.init.normal_(self.token_embed.weight, std=0.5)
        elif conditioning is Conditioning.CLASS:
            self.class_embed = nn.Embedding(num_classes + 1, width)  # the last one: unconditional
        if augment_dim:
            self.augment_embed = nn.Linear(augment_dim, width, bias=False)

    def forward(self, condition: Condition, count: int, device: torch.device) -> Tensor:
        c = torch.zeros(count, self.width, device=device)
        if self.conditioning is Conditioning.TEXT and condition.token_ids is not None:
            token_ids = condition.token_ids
            mask = (token_ids != 0).unsqueeze(-1)
            tokens = nn.functional.silu(self.token_proj(self.token_embed(token_ids) + self.token_pos_embed))
            # Divided by the square root of the count, which keeps the variance of one token.
            pooled = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1).sqrt()
            c = c + self.text_embed(pooled)
        elif self.conditioning is Conditioning.CLASS:
            labels = condition.class_labels
            if labels is None:
                labels = torch.full((count,), self.num_classes, device=device)
            c = c + self.class_embed(labels)
        if self.augment_dim and condition.augment_labels is not None:
            c = c + self.augment_embed(condition.augment_labels)
        return c
