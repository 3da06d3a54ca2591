"""PixelUNet: what its conditions change, its shapes, and its config in headers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.networks.unet import PixelUNet, UNetConfig, input_scale

SMALL = UNetConfig(
    image_size=16,
    block_out_channels=(8, 16),
    attention_side=8,
    cond_dim=16,
    num_classes=3,
    vocab_size=20,
    text_tokens=4,
    augment_dim=6,
)
WORDS, OTHERS = (torch.tensor([[1, 2, 0, 0], tokens]) for tokens in ([3, 4, 5, 0], [3, 4, 6, 0]))


def small(conditioning: Conditioning, **changes: object) -> PixelUNet:
    """Without layers that are zero, so that everything it reads has an effect."""
    torch.manual_seed(0)
    network = PixelUNet(replace(SMALL, conditioning=conditioning, **changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.2)
    return network.eval()


@torch.no_grad()
def predicted(network: PixelUNet, condition: Condition = Condition(), t: float = 0.4) -> torch.Tensor:  # noqa: B008
    x_t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    image: torch.Tensor = network(x_t, torch.tensor([t, 0.9]), condition)
    return image


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_a_new_network_predicts_grey_and_its_config_comes_back(conditioning: Conditioning) -> None:
    network = PixelUNet(replace(SMALL, conditioning=conditioning))
    assert bool((predicted(network) == 0).all())
    values = network.config.to_json()
    assert values["patch"] == 2 and values["block_out_channels"] == (8, 16)
    assert UNetConfig.from_json(values | {"block_out_channels": [8, 16]}) == network.config


def test_no_condition_is_the_empty_caption_and_the_class_beyond_the_last() -> None:
    text, of_class = small(Conditioning.TEXT), small(Conditioning.CLASS)
    assert torch.equal(predicted(text), predicted(text, Condition(torch.zeros(2, 4, dtype=torch.int64))))
    assert torch.equal(predicted(of_class), predicted(of_class, Condition(class_labels=torch.tensor([3, 3]))))


def test_captions_classes_and_augmentation_change_their_own_image_only() -> None:
    text, of_class, none = (small(conditioning) for conditioning in (Conditioning.TEXT, *tuple(Conditioning)[:2][::-1]))
    told = torch.tensor([[0.0] * 6, [1.0] + [0.0] * 5])
    pairs = [
        (text, Condition(WORDS), Condition(OTHERS)),
        (of_class, Condition(None, torch.tensor([0, 1])), Condition(None, torch.tensor([0, 2]))),
        (text, Condition(WORDS, None, 0 * told), Condition(WORDS, None, told)),
        (of_class, Condition(None, None, 0 * told), Condition(None, None, told)),
        (none, Condition(None, None, 0 * told), Condition(None, None, told)),
    ]
    for network, one, other in pairs:
        before, after = predicted(network, one), predicted(network, other)
        torch.testing.assert_close(before[0], after[0])
        assert (before[1] - after[1]).abs().max() > 1e-3
    torch.testing.assert_close(predicted(none), predicted(none, Condition(None, None, 0 * told)))


def test_embeddings_of_the_condition_replace_it() -> None:
    text, of_class = small(Conditioning.TEXT), small(Conditioning.CLASS)
    by_words, by_class = Condition(WORDS), Condition(class_labels=torch.tensor([0, 2]))
    for network, condition in ((text, by_words), (of_class, by_class)):
        embedded = network.cond_embed.embed(condition)
        given = Condition(embedded=embedded)
        torch.testing.assert_close(predicted(network, given), predicted(network, condition))
        assert not torch.equal(predicted(network, Condition(embedded=2 * embedded)), predicted(network, condition))


def test_the_input_has_the_variance_that_ddpm_gives_it() -> None:
    """alpha^2 + sigma^2 = 1 after scaling, at every time, and a time outside [0,1] counts as its end."""
    t = torch.linspace(0, 1, 11)
    torch.testing.assert_close(input_scale(t) ** 2 * ((1 - t) ** 2 + t**2), torch.ones(11))
    torch.testing.assert_close(input_scale(torch.tensor([-2.0, 3.0])), torch.ones(2))


def test_images_need_not_be_squares_or_of_three_channels() -> None:
    network = small(Conditioning.NONE, in_channels=1, augment_dim=0)
    assert network(torch.zeros(1, 1, 8, 20), torch.tensor([0.5])).shape == (1, 1, 8, 20)
    assert network.config.labels_dim == 0


@pytest.mark.parametrize(
    ("channels", "groups"), [((8, 16), 2), ((32, 64, 128), 8), ((64, 128), 16), ((128, 256), 32), ((24, 40), 4)]
)
def test_attention_is_at_small_sides_and_norms_have_four_channels_or_more(
    channels: tuple[int, ...], groups: int
) -> None:
    config = UNetConfig(image_size=32, block_out_channels=channels, attention_side=16)
    assert config.arguments()["norm_num_groups"] == groups
    assert config.attends == (False, True, True)[: len(channels)]
    assert len(PixelUNet(config).blocks) == 2 * len(channels) + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"block_out_channels": ()},
        {"block_out_channels": (12,)},
        {"cond_dim": 20},
        {"layers_per_block": 0},
        {"dropout": 1.0},
        {"image_size": 17},
    ],
)
def test_sizes_that_do_not_go_together_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(SMALL, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", ["8, 16", [8, 16.0], 8])
def test_a_header_with_other_channels_is_refused(channels: object) -> None:
    with pytest.raises(TypeError, match="whole numbers"):
        UNetConfig.from_json(SMALL.to_json() | {"block_out_channels": channels})
