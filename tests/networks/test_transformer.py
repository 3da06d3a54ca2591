"""The network's shapes, its beginnings, and what each condition may and may not change."""

from __future__ import annotations

import pytest
import torch

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.networks.transformer_layers import Block, apply_rotary, attention, rms_norm, rotary_embedding, zero_init
from diffstudio.training.objectives.diffusion import build_network
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe_choice import named_recipes


def small(**changes: object) -> TransformerConfig:
    values: dict[str, object] = {
        "image_size": 16,
        "patch_size": 4,
        "patch_margin": 2,
        "bottleneck_dim": 16,
        "hidden_size": 32,
        "depth": 2,
        "num_heads": 2,
        "cond_dim": 32,
    }
    return TransformerConfig(**{**values, **changes})  # type: ignore[arg-type]


def stirred(config: TransformerConfig) -> PixelTransformer:
    """A network whose gates and output are not zero any more, so that everything has an effect."""
    torch.manual_seed(0)
    network = PixelTransformer(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return network.eval()


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_keeps_the_shape_of_its_input(conditioning: Conditioning) -> None:
    network = PixelTransformer(small(conditioning=conditioning, num_classes=3, vocab_size=50, text_tokens=4))
    assert network(torch.randn(2, 3, 16, 16), torch.rand(2)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_number_of_channels(channels: int) -> None:
    """Only the patches' projections depend on it: C (p + 2 m)^2 numbers in and out."""
    network = stirred(small(in_channels=channels))
    assert network(torch.randn(2, channels, 16, 24), torch.rand(2)).shape == (2, channels, 16, 24)
    assert network.patch_embed.proj1.weight.shape == (16, channels * 8 * 8)
    assert network.final_layer.linear.weight.shape == (channels * 8 * 8, 32)
    header = network.config.to_json()
    assert header["channels"] == channels
    assert TransformerConfig.from_json(header) == network.config


def test_headers_without_channels_mean_three() -> None:
    header = small().to_json()
    assert "channels" not in header  # so that version 0.2 reads it too
    assert TransformerConfig.from_json(header).in_channels == 3
    with pytest.raises(ValueError, match="at least one channel"):
        small(in_channels=0)


def test_an_untrained_network_predicts_nothing() -> None:
    assert not PixelTransformer(small())(torch.randn(2, 3, 16, 16), torch.rand(2)).any()


def test_other_sizes_by_stretched_positions() -> None:
    assert stirred(small())(torch.randn(1, 3, 24, 12), torch.rand(1)).shape == (1, 3, 24, 12)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    network, x, t = stirred(small()), torch.randn(3, 3, 16, 16), torch.rand(3)
    together = network(x, t)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_words_and_their_order_matter_and_padding_says_nothing() -> None:
    network = stirred(small(conditioning=Conditioning.TEXT, vocab_size=50, text_tokens=4))
    x, t = torch.randn(1, 3, 16, 16), torch.full((1,), 0.5)

    def message(*words: int) -> torch.Tensor:
        return network(x, t, Condition(token_ids=torch.tensor([list(words)])))

    assert not torch.equal(message(1, 2, 0, 0), message(2, 1, 0, 0))
    assert not torch.equal(message(1, 2, 0, 0), message(1, 3, 0, 0))
    assert torch.equal(message(0, 0, 0, 0), network(x, t))


def test_a_class_matters_and_the_last_one_says_nothing() -> None:
    network = stirred(small(conditioning=Conditioning.CLASS, num_classes=3))
    x, t = torch.randn(1, 3, 16, 16), torch.full((1,), 0.5)
    message = [network(x, t, Condition(class_labels=torch.tensor([label]))) for label in range(4)]
    assert not torch.equal(message[0], message[1])
    assert torch.equal(message[3], network(x, t))


def test_zeros_told_are_nothing_told() -> None:
    network = stirred(small(augment_dim=6))
    x, t = torch.randn(1, 3, 16, 16), torch.rand(1)
    assert torch.equal(network(x, t, Condition(augment_labels=torch.zeros(1, 6))), network(x, t))
    assert not torch.equal(network(x, t, Condition(augment_labels=torch.ones(1, 6))), network(x, t))


def test_every_parameter_learns() -> None:
    network = stirred(small(conditioning=Conditioning.TEXT, vocab_size=10, text_tokens=4, augment_dim=6)).train()
    words, aug_labels = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.randn(2, 6)
    network(
        torch.randn(2, 3, 16, 16), torch.rand(2), Condition(token_ids=words, augment_labels=aug_labels)
    ).square().mean().backward()
    silent = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert silent == []


@pytest.mark.parametrize("count", [20, 600])  # written out, and the fused kernel itself
def test_attention_is_the_fused_kernels(count: int) -> None:
    query, key, value = torch.randn(3, 2, 4, count, 8).unbind(0)
    torch.testing.assert_close(
        attention(query, key, value),
        torch.nn.functional.scaled_dot_product_attention(query, key, value),
        rtol=1e-5,
        atol=1e-6,
    )


def test_rotation_keeps_lengths_and_sees_only_differences() -> None:
    """q . k after turning depends on where the two stand relative to each other: Su et al. 2021, eq. 16."""
    config = small(image_size=32)
    rotation = rotary_embedding(8, 8, 0, config, torch.device("cpu"))  # [2,64,1,8]
    query, key = torch.randn(1, 1, 1, 16).expand(1, 64, 1, 16), torch.randn(1, 1, 1, 16).expand(1, 64, 1, 16)
    query_turned, key_turned = apply_rotary(query, rotation), apply_rotary(key, rotation)
    torch.testing.assert_close(query_turned.norm(dim=-1), query.norm(dim=-1))
    products = torch.einsum("bnhd,bmhd->nm", query_turned, key_turned).reshape(8, 8, 8, 8)
    torch.testing.assert_close(products[1, 2, 3, 5], products[4, 1, 6, 4], rtol=1e-4, atol=1e-5)
    assert not torch.isclose(products[1, 2, 3, 5], products[1, 2, 5, 3])


def test_rms_norm() -> None:
    torch.testing.assert_close(rms_norm(torch.randn(5, 16)).square().mean(dim=-1), torch.ones(5), rtol=1e-3, atol=1e-3)


def test_the_header_keeps_the_keys_of_version_0_1() -> None:
    config = small(conditioning=Conditioning.TEXT, vocab_size=50, text_tokens=4, augment_dim=6)
    written = config.to_json()
    assert written == {
        "size": 16, "patch": 4, "margin": 2, "bottleneck": 16, "width": 32, "depth": 2, "heads": 2,
        "condition_width": 32, "conditioning": "text", "classes": 0, "vocabulary": 50, "text_tokens": 4, "told_width": 6,
    }  # fmt: skip
    assert TransformerConfig.from_json(written) == config


def test_the_defaults_which_headers_may_leave_out() -> None:
    assert TransformerConfig().to_json() == {
        "size": 64, "patch": 8, "margin": 4, "bottleneck": 128, "width": 256, "depth": 6, "heads": 4,
        "condition_width": 256, "conditioning": "none", "classes": 0, "vocabulary": 0, "text_tokens": 0, "told_width": 0,
    }  # fmt: skip


def test_zero_init() -> None:
    for bias in (True, False):
        assert not any(parameter.any() for parameter in zero_init(torch.nn.Linear(3, 2, bias=bias)).parameters())


@pytest.mark.parametrize(
    "wrong", [{"image_size": 18}, {"image_size": 2}, {"num_heads": 5}, {"hidden_size": 36, "num_heads": 6}]
)
def test_shapes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        small(**wrong)


def test_the_recipes_span_two_to_130_million_parameters() -> None:
    counts = {}
    for name, recipe in named_recipes().items():
        if recipe.objective.kind is not ObjectiveName.DIFFUSION or recipe.few_steps.enabled:
            continue
        with torch.device("meta"):
            network = build_network(recipe, 9, recipe.network.vocabulary)
        counts[name] = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert list(counts) == ["tiny", "small", "medium", "large", "unet"]
    assert 2 <= counts["tiny"] < 3 and 8 < counts["small"] < 10 and 120 < counts["large"] < 135


def test_dropout_drops_a_share_of_what_a_block_adds_in_training() -> None:
    """The mean stays; outside training the block is the same to the bit."""
    network = stirred(small(depth=1))
    block = network.blocks[0]
    assert isinstance(block, Block)
    x, c = torch.randn(2000, 5, 32), torch.randn(2000, 32)
    rotation = rotary_embedding(1, 1, 4, network.config, torch.device("cpu"))
    with torch.no_grad():
        added = block(x, c, rotation)
        block.dropout = 0.25
        assert torch.equal(block(x, c, rotation), added)
        block.train()
        kept = block._some_of(torch.ones(100_000))
    assert set(kept.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(float(kept.mean()) - 1) < 0.01
    assert not torch.equal(block(x, c, rotation), added)
