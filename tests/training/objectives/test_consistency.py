"""The few-steps objective: what the teacher gives it, and what it learns from an exact teacher."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffstudio.models.families import pixel, pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.training.data.batches import Batch, Batches
from diffstudio.training.distributed.portion import Portion
from diffstudio.training.objectives.consistency import ConsistencyObjective
from diffstudio.training.objectives.objective import TEACHER
from diffstudio.training.recipe import FewStepsRecipe, OptimiserRecipe, Recipe
from diffstudio.training.trainer import Trainer
from tests.training.objectives import small

CPU = torch.device("cpu")
VALUE = 0.8  # of all pixels of one image of two; -VALUE of the other


def few_steps(conditioning: Conditioning, **tuning: object) -> Recipe:
    recipe = small.recipe("diffusion", conditioning)
    network = replace(recipe.network, patch=4, margin=0, bottleneck=16, width=16, heads=2, depth=1, vocabulary=300)
    settings = FewStepsRecipe(**{"enabled": True, "teacher_calls": 4, "guidance": 3.0} | tuning)  # type: ignore[arg-type]
    return replace(recipe, network=replace(network, text_tokens=4), few_steps=settings)


def with_random_weights(objective: ConsistencyObjective) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in objective.others[TEACHER].parameters():
            parameter.normal_(0, 0.3, generator=generator)


@pytest.mark.parametrize("conditioning", [Conditioning.TEXT, Conditioning.CLASS, Conditioning.NONE])
def test_what_is_learned_is_the_guided_estimate_of_the_checkpoint_itself(
    conditioning: Conditioning, tmp_path: Path
) -> None:
    """At noise levels inside its guidance interval and outside, as generating with it computes it, to the bit."""
    recipe = few_steps(conditioning, guidance_interval=(0.2, 0.9))
    tokenizer = CaptionTokenizer.learn(["red disc", "blue disc", "red square"] * 3, 300)
    text, classes = conditioning is Conditioning.TEXT, ("disc", "square")
    vocabulary = tokenizer.vocabulary if text else 0
    objective = ConsistencyObjective(recipe, classes=2, vocabulary=vocabulary, device=CPU)
    with_random_weights(objective)
    network = objective.others[TEACHER]
    assert isinstance(network, PixelTransformer)
    pixel_file.save(
        tmp_path / "teacher.safetensors",
        network,
        title="teacher",
        tokenizer=tokenizer if text else None,
        classes=classes,
        guidance={"scale": 3.0, "interval": [0.2, 0.9]},
    )
    model = pixel.load(read_checkpoint(tmp_path / "teacher.safetensors"), CPU, torch.float32)
    prompts = {Conditioning.TEXT: ["red disc", "blue disc"], Conditioning.CLASS: ["square", "disc"]}.get(conditioning)
    prompt = model.encode_prompt(prompts or ["", ""])
    condition = {
        Conditioning.TEXT: Condition(token_ids=tokenizer.encode(["red disc", "blue disc"], 4)),
        Conditioning.CLASS: Condition(class_labels=torch.tensor([1, 0])),
    }.get(conditioning, Condition())
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for t in (0.1, 0.5, 0.95):
            at = torch.full((2,), t)
            learned, drawn = objective.teacher(condition)(x, at), model.denoiser(prompt, 3.0)(x, at)
            assert torch.equal(learned, drawn)
            if conditioning is not Conditioning.NONE:
                plain = objective.teacher(condition, 1.0)(x, at)
                assert torch.equal(learned, plain) == (t != 0.5)


class Exact(nn.Module):
    """The expected image of two of which one has VALUE everywhere and the other -VALUE."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.weight = config, nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        evidence = (1 - t) / t.clamp(min=1e-3) ** 2 * VALUE * x_t.flatten(1).sum(1)
        return VALUE * torch.tanh(evidence).view(-1, 1, 1, 1).expand_as(x_t)


def test_from_an_exact_teacher_it_learns_to_draw_in_one_step() -> None:
    """The teacher's first estimate is the mean of both images; the paths end at one of them, by the noise's mean."""
    recipe = few_steps(Conditioning.NONE, teacher_calls=6, guidance=1.0)
    recipe = replace(
        recipe, optimiser=OptimiserRecipe(muon_learning_rate=0.01, learning_rate=3e-3, warm_up_steps=5, ema=0.9)
    )
    trainer = Trainer(replace(recipe, run=replace(recipe.run, steps=120)), classes=0, vocabulary=0, device=CPU)
    objective = trainer.objective
    assert isinstance(objective, ConsistencyObjective)
    objective._teacher = Exact(objective.network.config)  # type: ignore[assignment]
    images = torch.full((32, 1, 8, 8), VALUE)
    images[::2] *= -1
    noise = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(7))

    def one_step() -> Tensor:
        with torch.no_grad():
            return trainer.ema_network.eval()(noise, torch.ones(64), Condition())

    assert float(one_step().abs().mean()) < 0.1
    for step in range(120):
        trainer.step(Batch(images, Condition(), torch.Generator().manual_seed(step)))
    drawn = one_step()
    clear = noise.flatten(1).mean(1).abs() > 0.05  # others lie on the border
    right = drawn.flatten(1).mean(1).sign() == noise.flatten(1).mean(1).sign()
    assert float(right[clear].float().mean()) > 0.9
    assert float(drawn[clear].abs().mean()) > 0.6 * VALUE


def test_processes_that_share_a_batch_follow_the_same_paths() -> None:
    objective = ConsistencyObjective(few_steps(Conditioning.CLASS), classes=2, vocabulary=0, device=CPU)
    with_random_weights(objective)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2, 0])

    def solved(part: Portion | None) -> list[Tensor]:
        own = slice(0, 4) if part is None else slice(part.first, part.first + part.count)
        batch = Batch(images[own], Condition(class_labels=labels[own]), torch.Generator().manual_seed(3), None, part)
        path = objective.solve(batch, 1.0, 0.0)
        return [*path.states, path.end]

    whole = solved(None)
    for mine, all_of_them in zip(solved(Portion.of(4, 1, 2)), whole, strict=True):
        torch.testing.assert_close(mine, all_of_them[2:], atol=1e-5, rtol=1e-5)


def test_the_held_out_measure_is_fixed_and_needs_held_out_images() -> None:
    recipe = few_steps(Conditioning.CLASS, segments=2)
    batches = Batches(small.dataset(), recipe, None)
    objective = ConsistencyObjective(recipe, classes=2, vocabulary=0, device=CPU)
    with_random_weights(objective)
    first, second = (objective.fixed_losses(objective.network, batches) for _ in range(2))
    assert first is not None and first == second
    assert len(first.levels) == len(first.held_out) == len(first.training) == 4
    assert list(first.levels) == sorted(first.levels) and first.levels[-1] == 1.0
    assert objective.fixed_losses(objective.others[TEACHER], batches) != first
    assert objective.baseline(batches) is None
    assert objective.fixed_losses(objective.network, Batches(small.dataset(held_out=0), recipe, None)) == first
    new = ConsistencyObjective(recipe, classes=2, vocabulary=0, device=CPU)
    assert new.fixed_losses(new.network, Batches(small.dataset(held_out=0), recipe, None)) is None


def test_images_do_not_depend_on_their_batch_and_guidance_changes_nothing() -> None:
    objective = ConsistencyObjective(few_steps(Conditioning.CLASS), classes=2, vocabulary=0, device=CPU)
    with_random_weights(objective)
    model = objective.model(objective.others[TEACHER], None, ("disc", "square"))

    def drawn(prompts: list[str], seeds: list[int], guidance: float = 1.0) -> Tensor:
        options = SampleOptions(seeds=seeds, steps=4, sampler="lcm", guidance=guidance)
        *_, last = sample(model, model.encode_prompt(prompts), options)
        return last.x

    together = drawn(["disc", "square", "disc"], [5, 6, 7])
    torch.testing.assert_close(drawn(["square"], [6])[0], together[1], atol=1e-5, rtol=1e-5)
    assert torch.equal(drawn(["disc", "square", "disc"], [5, 6, 7], 7.0), together)
    assert not math.isclose(float(together[0].mean()), float(together[2].mean()))
