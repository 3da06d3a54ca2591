"""Autoencoder, Generator and Discriminator: shapes, what they are at initialisation, and what conditions change."""

from __future__ import annotations

import json

import pytest
import torch

from diffstudio.networks.autoencoder import Autoencoder, AutoencoderConfig
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.gan import Discriminator, GanConfig, Generator
from diffstudio.networks.transformer import Condition

SIZES = {"image_size": 16, "patch_size": 4, "hidden_size": 8, "cond_dim": 8}
CONDITIONS = {
    Conditioning.NONE: (Condition(), Condition()),
    Conditioning.CLASS: (Condition(class_labels=torch.tensor([0, 1])), Condition(class_labels=torch.tensor([2, 1]))),
    Conditioning.TEXT: (
        Condition(token_ids=torch.tensor([[1, 2, 0], [3, 0, 0]])),
        Condition(token_ids=torch.tensor([[2, 1, 0], [3, 0, 0]])),  # another order
    ),
}


def sizes(conditioning: Conditioning = Conditioning.NONE, **more: object) -> dict[str, object]:
    by = {Conditioning.CLASS: {"num_classes": 3}, Conditioning.TEXT: {"vocab_size": 9, "text_tokens": 3}}
    return SIZES | {"conditioning": conditioning} | by.get(conditioning, {}) | more


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return network.eval()


def autoencoder(**changes: object) -> Autoencoder:
    config = AutoencoderConfig(**sizes(**changes), latent_channels=3, prior_width=16, prior_depth=1)  # type: ignore[arg-type]
    network = stirred(Autoencoder(config))
    assert isinstance(network, Autoencoder)
    return network


def gan(**changes: object) -> tuple[Generator, Discriminator]:
    config = GanConfig(**sizes(**changes), latent_size=6)  # type: ignore[arg-type]
    generator, discriminator = stirred(Generator(config)), stirred(Discriminator(config))
    assert isinstance(generator, Generator) and isinstance(discriminator, Discriminator)
    return generator, discriminator


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_shapes_of_images_and_latents(channels: int) -> None:
    network, images = autoencoder(in_channels=channels), torch.randn(2, channels, 16, 16)
    mean, log_variance = network.encode(images, network.condition(Condition(), 2))
    assert mean.shape == log_variance.shape == (2, 3, 4, 4) == (2, *network.noise_shape)
    assert network(images).shape == network.generate(mean, Condition()).shape == images.shape
    generator, discriminator = gan(in_channels=channels)
    assert generator.generate(torch.randn(2, *generator.noise_shape), Condition()).shape == images.shape
    assert discriminator(images).shape == (2,)


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_the_condition_of_an_image_changes_that_image_alone(conditioning: Conditioning) -> None:
    one, other = CONDITIONS[conditioning]
    network, (generator, discriminator) = autoencoder(conditioning=conditioning), gan(conditioning=conditioning)
    z, noise, images = torch.randn(2, 3, 4, 4), torch.randn(2, 6), torch.randn(2, 3, 16, 16)
    for call in (
        lambda condition: network.generate(z, condition),
        lambda condition: network(images, condition),
        lambda condition: generator(noise, condition),
        lambda condition: discriminator(images, condition),
    ):
        same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(call(one), call(other), strict=True)]
        assert same == [conditioning is Conditioning.NONE, True]
        if conditioning is not Conditioning.NONE:  # without a condition they are the unconditional model
            assert not torch.allclose(call(one), call(Condition()))


def test_augmentation_labels_count_and_zeros_are_none() -> None:
    network, images = autoencoder(augment_dim=6), torch.randn(2, 3, 16, 16)
    plain = network(images)
    assert torch.equal(network(images, Condition(augment_labels=torch.zeros(2, 6))), plain)
    assert not torch.equal(network(images, Condition(augment_labels=torch.ones(2, 6))), plain)


def test_an_untrained_flow_prior_is_the_standard_normal() -> None:
    network = Autoencoder(AutoencoderConfig(**sizes(), latent_channels=3, prior_width=16))  # type: ignore[arg-type]
    noise = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(network.sample_latents(noise, torch.zeros(5, 8)), noise)


def test_the_flow_prior_follows_its_velocity_to_latents_of_another_mean() -> None:
    """With the exact velocity of N(3, 1/4), (eps - z_0 given z_t), samples have that mean and deviation."""
    network = autoencoder()

    class Exact(torch.nn.Module):
        def forward(self, z_t: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            t = t[:, None]
            variance = ((1 - t) / 2) ** 2 + t**2
            centred = z_t - 3 * (1 - t)
            return (t - (1 - t) / 4) / variance * centred - 3

    network.prior = Exact()  # type: ignore[assignment]
    found = network.sample_latents(torch.randn(2000, 3, 4, 4), torch.zeros(2000, 8))
    assert float(found.mean()) == pytest.approx(3, abs=0.02) and float(found.std()) == pytest.approx(0.5, rel=0.02)


def test_residual_blocks_and_the_conditioning_of_the_critic_begin_quietly() -> None:
    generator = Generator(GanConfig(**sizes(), latent_size=6))  # type: ignore[arg-type]
    for level in generator.blocks:
        x = torch.randn(2, level[0].conv1.in_channels, 4, 4)
        assert torch.equal(level[0](x), x)
    scores = Discriminator(GanConfig(**sizes(), latent_size=6))(torch.randn(64, 3, 16, 16))  # type: ignore[arg-type]
    assert float(scores.detach().std()) < 5


def test_principal_directions_are_those_of_the_latents() -> None:
    network = autoencoder()
    rng = torch.Generator().manual_seed(0)
    first, second = torch.linalg.qr(torch.randn(48, 2, generator=rng)).Q.T
    amounts = torch.randn(200, 2, generator=rng) * torch.tensor([5.0, 2.0])
    latents = 1.0 + amounts[:, :1] * first + amounts[:, 1:] * second
    network.set_directions(latents)
    directions, deviations = network.latent_directions, network.latent_deviations
    assert abs(float(directions[0] @ first)) > 0.99 and abs(float(directions[1] @ second)) > 0.99
    torch.testing.assert_close(deviations[:2], torch.tensor([5.0, 2.0]), rtol=0.15, atol=0)
    assert float(deviations[2:].max()) < 1e-3
    torch.testing.assert_close(network.latent_mean, latents.mean(dim=0))
    network.set_directions(latents[:3])  # fewer images than directions
    assert not bool(network.latent_directions[3:].any()) and bool(network.latent_directions[0].any())


@pytest.mark.parametrize(
    "config",
    [
        AutoencoderConfig(**sizes(Conditioning.TEXT), latent_channels=3),  # type: ignore[arg-type]
        GanConfig(**sizes(Conditioning.CLASS, augment_dim=6), latent_size=6),  # type: ignore[arg-type]
    ],
)
def test_the_shape_is_read_back_from_a_header(config: AutoencoderConfig | GanConfig) -> None:
    values = json.loads(json.dumps(config.to_json()))
    assert type(config).from_json(values) == config
    assert {"size", "channels", "patch", "width", "latent", "classes", "vocabulary"} <= set(values)
    for wrong in (values | {"colour": 1}, {name: values[name] for name in ("size",)}, values | {"patch": 3}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            type(config).from_json(wrong)


def test_a_stem_folds_pixels_into_channels_and_one_latent_can_stand_for_the_whole_image() -> None:
    network, images = autoencoder(stem_size=2, latent_grid=1), torch.randn(2, 3, 16, 16)
    assert network.config.widths == (8, 16) and network.noise_shape == (3, 1, 1) and network.config.latent_values == 3
    mean, _ = network.encode(images, network.condition(Condition(), 2))
    assert mean.shape == (2, 3, 1, 1) and network.generate(mean, Condition()).shape == images.shape
    # every cell of the image depends on the latent, and the latent on every pixel
    changed = network.decode(mean + 1, network.condition(Condition(), 2)) - network(images)
    assert bool((changed.abs().amax(dim=(0, 1)) > 0).all())
    images.requires_grad_(True)
    network.encode(images, network.condition(Condition(), 2))[0].sum().backward()
    assert images.grad is not None and bool((images.grad != 0).all())
    generator, discriminator = gan(stem_size=4)
    assert generator(torch.randn(2, 6)).shape == (2, 3, 16, 16) and discriminator(torch.randn(2, 3, 16, 16)).shape == (
        2,
    )
    assert len(generator.blocks) == 1  # 4 px cells are the coarsest grid too


@pytest.mark.parametrize("wrong", [{"stem_size": 3}, {"stem_size": 8}, {"stem_size": 0}])
def test_impossible_stems_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="stem"):
        GanConfig(**SIZES | wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grid of latents"):
        AutoencoderConfig(**SIZES, latent_grid=2)  # type: ignore[arg-type]


def test_headers_from_before_stems_are_read() -> None:
    values = GanConfig(**SIZES).to_json()  # type: ignore[arg-type]
    del values["stem"]
    assert GanConfig.from_json(values) == GanConfig(**SIZES)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"patch_size": 3}, {"image_size": 18}, {"hidden_size": 0}, {"patch_size": 0}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        GanConfig(**SIZES | wrong)  # type: ignore[arg-type]
    assert GanConfig(**SIZES).widths == (8, 16, 32) and GanConfig(**SIZES).grid == 4  # type: ignore[arg-type]
