"""A trainer restored from a training state of version 0.1 goes on as that version did."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.batches import Batch
from diffstudio.training.recipe import Recipe, read_recipe
from diffstudio.training.trainer import Trainer

OLD = Path(__file__).parents[1] / "data" / "v0_1_keys"


def batch(step: int, conditioning: Conditioning) -> Batch:
    """The batches that the old states were trained on: see the README beside them."""
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    augment_labels = torch.rand(2, 6, generator=generator)
    if conditioning is Conditioning.CLASS:
        return Batch(images, Condition(None, torch.tensor([step % 3, 1]), augment_labels), generator)
    token_ids = torch.tensor([[1, 2, 0, 0], [3, step % 5, 4, 0]])
    return Batch(images, Condition(token_ids, None, augment_labels), generator)


@torch.no_grad()
def predicted(network: torch.nn.Module, conditioning: Conditioning) -> Tensor:
    """Channel 0 of image 0, [64]."""
    x_t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prediction: Tensor = network.eval()(x_t, torch.tensor([0.9, 0.2]), batch(1, conditioning).condition)
    return prediction[0, 0].flatten()


@pytest.mark.parametrize("conditioning", [Conditioning.CLASS, Conditioning.TEXT])  # with AdamW, with Muon
def test_resumes_a_state_of_version_0_1(conditioning: Conditioning) -> None:
    expected = {
        key: torch.tensor(value) if key.endswith(("_3", "_6")) else value
        for key, value in json.loads((OLD / "expected.json").read_text(encoding="utf-8"))[str(conditioning)].items()
    }
    recipe = read_recipe(OLD / f"{conditioning}.recipe.toml")
    vocabulary = 257 if conditioning is Conditioning.TEXT else 0
    trainer = Trainer(recipe, classes=3, vocabulary=vocabulary, device=torch.device("cpu"))
    state = gzip.decompress((OLD / f"{conditioning}.state.pt.gz").read_bytes())
    trainer.restore(torch.load(io.BytesIO(state), weights_only=True))
    assert trainer.step_number == 3 and trainer.elapsed_seconds == 1.5
    torch.testing.assert_close(predicted(trainer.network, conditioning), expected["prediction_at_step_3"])
    for step in range(3, 6):
        trainer.step(batch(step, conditioning))
    close = {"rtol": 1e-4, "atol": 1e-6}  # on the processor that wrote them they are equal to the bit
    torch.testing.assert_close(predicted(trainer.network, conditioning), expected["prediction_at_step_6"], **close)
    torch.testing.assert_close(predicted(trainer.average.module, conditioning), expected["average_at_step_6"], **close)


def test_what_is_black_in_a_mask_moves_no_weight(recipe: Recipe) -> None:
    """Batches that differ only where masks are black have the same loss and move the network's output alike.

    A new network predicts 0 whatever it reads, so its first update depends on the pixels through the loss alone.
    """

    def stepped(weight: float, value: float) -> tuple[float, Tensor]:
        network = replace(recipe.network, conditioning=Conditioning.NONE, margin=0)
        plain = replace(recipe, network=network, optimiser=replace(recipe.optimiser, clip_norm=1e6))
        trainer = Trainer(plain, classes=0, vocabulary=0, device=torch.device("cpu"))
        images, weights = torch.zeros(4, 3, 16, 16), torch.ones(4, 1, 16, 16)
        images[..., 8:], weights[..., 8:] = value, weight
        loss = trainer.step(Batch(images, Condition(), torch.Generator().manual_seed(0), weights)).loss
        return loss, trainer.network.final_layer.linear.bias.detach().clone()

    counted, other = stepped(1.0, 0.0), stepped(1.0, 0.9)
    assert counted[0] != other[0] and not torch.equal(counted[1], other[1])
    masked, changed = stepped(0.0, 0.0), stepped(0.0, 0.9)
    assert masked[0] == changed[0] and torch.equal(masked[1], changed[1])
