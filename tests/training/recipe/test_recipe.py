"""Recipes: written completely, read back unchanged, and clear errors for invalid files."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffstudio import paths
from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.errors import RunProblem
from diffstudio.imaging.value_range import SampleType
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.recipe.data_recipe import ClassesName, DataRecipe, MasksName, RangesRecipe
from diffstudio.training.recipe.few_steps_recipe import FewStepsRecipe
from diffstudio.training.recipe.limits import RANGES
from diffstudio.training.recipe.network_recipe import NetworkName, NetworkRecipe
from diffstudio.training.recipe.objective_recipe import (
    GanLossName,
    NoiseLevelsName,
    ObjectiveName,
    ObjectiveRecipe,
    WeightingName,
)
from diffstudio.training.recipe.optimiser_recipe import DecayName, OptimiserName, OptimiserRecipe
from diffstudio.training.recipe.recipe import FORMAT, MIN_TIMESTEP, Recipe, ranges_of_recipe, read_recipe
from diffstudio.training.recipe.run_recipe import RunRecipe
from diffstudio.training.recipe.upper_recipe import UpperRecipe

UNLIKE_THE_DEFAULTS = Recipe(
    name='mine: "quoted", ünïcode 赤',
    description="two\nlines",
    data=DataRecipe(
        size=32,
        background="black",
        fit="pad",
        buckets=(40, 24),
        channels=2,
        alpha=True,
        bits=16,
        channel_ranges=(0.0, 1.0, -1.0, 1.0),
        held_out=0.1,
        classes=ClassesName.FIRST_FOLDER,
        exclude=("a", "b/c"),
        sequences_together=False,
        flips=0.0,
        rotation_degrees=5.0,
        translation=0.1,
        augment_labels=False,
        masks=MasksName.USE,
        unmasked_weight=0.5,
        ranges=RangesRecipe(uint16=(0.0, 4095.0), integer=(-1024.0, 3071.0), floating=(-1.0, 1.0)),
    ),
    network=NetworkRecipe(
        conditioning=Conditioning.CLASS,
        patch=4,
        margin=1,
        bottleneck=16,
        width=64,
        depth=2,
        heads=2,
        condition_width=32,
        vocabulary=100,
        text_tokens=4,
        latent=8,
        prior_width=32,
        prior_depth=2,
        latent_grid=1,
        stem=2,
        drop_condition=0.2,
        name_share=0.1,
        tags_share=0.2,
        channels=(16, 24),
        layers=3,
        attention=4,
    ),
    upper=UpperRecipe(
        patch=16,
        margin=2,
        bottleneck=64,
        width=96,
        depth=3,
        heads=3,
        condition_width=96,
        noise=0.3,
        mean=0.5,
        deviation=1.5,
        sample_noise=0.1,
        sample_steps=3,
    ),
    objective=ObjectiveRecipe(
        NoiseLevelsName.COSINE,
        mean=-1.0,
        deviation=2.0,
        sigma_floor=0.01,
        kind=ObjectiveName.VAE,
        free_bits=0.2,
        kl_warm_up=0.3,
        gan_loss=GanLossName.NON_SATURATING,
        gamma=2.0,
        gamma_end=0.5,
        prior_draws=3,
        penalty_every=4,
        diff_augment="off",
        noise_curve=(0.0, 9.5, 0.25, 1.0, 1.0, -8.0),
        prediction=Prediction.EDM,
        weighting=WeightingName.MIN_SNR,
        min_snr_gamma=3.0,
        sigma_data=0.4,
        learned_variance=True,
        perceptual=2.0,
    ),
    few_steps=FewStepsRecipe(
        segments=2,
        teacher_calls=5,
        points=2,
        guidance=2.5,
        guidance_interval=(0.1, 0.8),
        min_timestep=0.1,
        teacher="mine",
        teacher_sha256="ab",
    ),
    optimiser=OptimiserRecipe(
        OptimiserName.SGD,
        learning_rate=1e-3,
        muon_learning_rate=0.1,
        weight_decay=0.01,
        betas=(0.8, 0.999),
        momentum=0.5,
        warm_up_steps=3,
        decay=DecayName.COSINE,
        decay_share=0.5,
        clip_norm=1.0,
        ema=0.9,
        muon_dtype="auto",
    ),
    run=RunRecipe(
        steps=7,
        minutes=1.5,
        schedule="time",
        first_step=2,
        first_seconds=4.5,
        end_step=6,
        patience=3,
        batch=3,
        seed=2**63 - 1,
        dtype="float32",
        device="cpu",
        threads=2,
        compile=True,
        sample_every=2,
        sample_count=4,
        checkpoint_every=3,
        keep_checkpoints=2,
        ema_snapshots=4,
        start_from="",
        held_out_every=5,
        prompts=("a, b", "赤い", ""),
        sample_steps=5,
        sample_sampler="euler",
        sample_spacing="uniform",
        sample_guidance=1.0,
        sample_min_timestep=0.3,
    ),
)


def numbers_of(recipe: Recipe) -> dict[str, Any]:
    """Every value by its dotted name."""
    return {
        (f"{section}.{name}" if isinstance(values, dict) else section): value
        for section, values in dataclasses.asdict(recipe).items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def test_this_recipe_differs_from_the_defaults_everywhere() -> None:
    """So that the round trips below leave no value out, also one that is added later."""
    defaults, others = numbers_of(Recipe()), numbers_of(UNLIKE_THE_DEFAULTS)
    same = {name for name in defaults if defaults[name] == others[name]}
    of_others = {
        "run.start_from",
        "upper.factor",
        "few_steps.enabled",
        "network.kind",
        "network.dropout",
        "data.cross_splits",
    }
    assert same == of_others  # which a VAE has not, and others below
    assert Recipe.from_json({"few_steps": {"enabled": True}}).few_steps.enabled
    values = {
        "data": {"cross_splits": 5},
        "network": {"kind": "unet", "dropout": 0.5},
        "optimiser": {"name": "adam"},
        "run": {"start_from": "starter"},
    }
    unet = Recipe.from_json(values)
    assert unet.data.cross_splits == 5
    assert (unet.run.start_from, unet.network.kind, unet.network.dropout) == ("starter", NetworkName.UNET, 0.5)
    assert Recipe.from_json(json.loads(json.dumps(unet.to_json()))) == unet


@pytest.mark.parametrize("recipe", [Recipe(), UNLIKE_THE_DEFAULTS], ids=["defaults", "others"])
def test_written_and_read_again(tmp_path: Path, recipe: Recipe) -> None:
    recipe.write(tmp_path / "recipe.toml")
    again = read_recipe(tmp_path / "recipe.toml")
    assert again == recipe
    assert numbers_of(again) == numbers_of(recipe)
    assert all(type(numbers_of(again)[name]) is type(value) for name, value in numbers_of(recipe).items())
    assert [file.name for file in tmp_path.glob("*.part")] == []
    again.write(tmp_path / "again.toml")
    assert (tmp_path / "again.toml").read_bytes() == (tmp_path / "recipe.toml").read_bytes()


def test_through_json_as_checkpoints_carry_it() -> None:
    assert Recipe.from_json(json.loads(json.dumps(UNLIKE_THE_DEFAULTS.to_json()))) == UNLIKE_THE_DEFAULTS


def test_the_file_is_complete_and_says_its_format(tmp_path: Path) -> None:
    """Every default is written out: a run is the same run whatever the defaults of a later program are."""
    Recipe().write(tmp_path / "recipe.toml")
    stored = tomllib.loads((tmp_path / "recipe.toml").read_text(encoding="utf-8"))
    assert stored.pop("format") == FORMAT
    assert set(stored) == {field.name for field in dataclasses.fields(Recipe)}
    for section in dataclasses.fields(Recipe):
        values = getattr(Recipe(), section.name)
        if dataclasses.is_dataclass(values):
            keys = {"augment_labels": "tell_augmentation"}
            assert set(stored[section.name]) == {
                keys.get(field.name, field.name) for field in dataclasses.fields(values)
            }


def test_what_is_left_out_takes_its_default() -> None:
    recipe = Recipe.from_json({"data": {"size": 128}, "run": {"prompts": ["cat"]}})
    assert recipe == Recipe(data=DataRecipe(size=128), run=RunRecipe(prompts=("cat",)))
    assert Recipe.from_json({}) == Recipe()


def test_whole_numbers_and_fractions_pass_for_each_other_where_nothing_is_lost() -> None:
    recipe = Recipe.from_json({"optimiser": {"clip_norm": 3, "betas": [0, 0.5]}, "run": {"steps": 50.0}})
    assert (recipe.optimiser.clip_norm, recipe.optimiser.betas, recipe.run.steps) == (3.0, (0.0, 0.5), 50)
    assert type(recipe.optimiser.clip_norm) is type(recipe.optimiser.betas[0]) is float
    assert type(recipe.run.steps) is int


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("run", {"setps": 5}, "Unknown key 'setps' in the recipe.run"),
        ("data", {"size": "big"}, "recipe.data.size is 'big': it must be a whole number"),
        ("data", {"size": 64.5}, "whole number"),
        ("data", {"size": True}, "whole number"),
        ("data", {"size": float("inf")}, "whole number"),
        ("data", {"size": [64]}, "whole number"),
        ("data", {"flips": "often"}, "a number"),
        ("data", {"flips": float("nan")}, "a number"),
        ("data", {"flips": 10**400}, "a number"),
        ("data", {"tell_augmentation": 1}, "true or false"),
        ("data", {"background": 5}, "text"),
        ("data", {"exclude": "flags"}, "list of strings"),
        ("data", {"exclude": ["flags", 5]}, "text"),
        ("optimiser", {"betas": [0.9]}, "list of two numbers"),
        ("optimiser", {"betas": "ab"}, "list of two numbers"),
        ("optimiser", {"betas": [0.9, "x"]}, "a number"),
        ("optimiser", {"betas": [0.9, 1.0]}, "below 1"),
        ("optimiser", {"name": "adagrad"}, "one of muon, adamw"),
        ("optimiser", {"name": ["adam"]}, "one of muon, adamw"),
        ("network", {"conditioning": "smell"}, "one of none, class, text"),
        ("network", {"name_share": 0.7, "tags_share": 0.7}, "add up to more than 1"),
        ("network", {"kind": "mlp"}, "one of transformer, unet"),
        ("network", {"kind": "unet"}, "a U-Net has no transformer blocks"),
        ("network", {"channels": []}, "a multiple of 8 for each of 1 to 8 levels"),
        ("network", {"channels": [32, 36]}, "a multiple of 8 for each of 1 to 8 levels"),
        ("data", {"fit": "stretch"}, "auto, crop, bucket, pad"),
        ("run", {"dtype": "float8"}, "auto, float32, bfloat16"),
        ("run", {"batch": 0}, "must be between 1"),
        ("run", {"steps": -5}, "must be between 1"),
        ("run", {"sample_every": 0}, "must be between 1"),
        ("run", {"seed": 2**63}, "must be between 0"),
        ("data", {"bits": 12}, "one of 0, 8, 16"),
        ("data", {"channels": 65}, "between 0 and 64"),
        ("data", {"alpha": True, "channels": 3}, "fourth of colour images"),
        ("data", {"channels": 2, "channel_ranges": [0, 1]}, "two rising numbers for each channel"),
        ("data", {"channels": 1, "channel_ranges": [1, 0]}, "two rising numbers for each channel"),
        ("data", {"buckets": [64]}, "widths and heights in turn"),
        ("data", {"buckets": [64, 4]}, "widths and heights in turn"),
        ("data", {"buckets": [64, 4.5]}, "whole number"),
        ("network", {"heads": 0}, "must be between 1"),
        ("objective", {"sigma_floor": 0.0}, "must be between"),
        ("optimiser", {"ema": 1.0}, "must be between 0"),
        (
            "objective",
            {"noise_levels": "curve"},
            "recipe.objective.noise_curve is (): its number of points is 0, and 2 to 64 are needed",
        ),
        ("objective", {"noise_levels": "curve", "noise_curve": [0, 1, 1]}, "alternating times and log-SNRs"),
        ("objective", {"noise_levels": "curve", "noise_curve": [0, 1, 1, 2]}, "log-SNR does not fall from time 0 (1)"),
        ("objective", {"noise_levels": "curve", "noise_curve": [0, 3, 0.5, 2, 0.5, 1, 1, 0]}, "two points at time 0.5"),
        ("objective", {"noise_levels": "curve", "noise_curve": [0, 3, 1.5, 1]}, "time 1.5 is not between 0 and 1"),
        ("objective", {"noise_curve": [0, 1, 1, 2]}, "log-SNR does not fall"),
        ("objective", {"noise_curve": [0, "x"]}, "a number"),
    ],
)
def test_what_a_recipe_cannot_say(tmp_path: Path, section: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RunProblem) as problem:
        Recipe.from_json({section: values})
    assert message in str(problem.value)
    assert len(str(problem.value)) < 400


@pytest.mark.parametrize(
    "values", [{"data": 5}, {"data": []}, {"data": "ab"}, {"data": None}, {"name": None}, [], "recipe"]
)
def test_a_recipe_of_the_wrong_shape(values: Any) -> None:
    with pytest.raises(RunProblem):
        Recipe.from_json(values)


@pytest.mark.parametrize("written", [FORMAT + 1, "1", None, 1.5, True])
def test_a_recipe_of_another_format(written: object) -> None:
    with pytest.raises(RunProblem, match="Update diffstudio"):
        Recipe.from_json({"format": written})


@pytest.mark.parametrize(
    "content", [b"= 5", b"\xff\xfe", b"name = 'a'\nname = 'b'", b"a = " + b"[" * 50_000, b"[data]\n[data]\n"]
)
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(RunProblem, match="r.toml") as problem:
        read_recipe(tmp_path / "r.toml")
    assert problem.value.remedy


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(RunProblem, match="cannot be read") as problem:
            read_recipe(path)
        assert "Errno" not in str(problem.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
NAMES = sorted(
    {
        field.name
        for kind in (Recipe, DataRecipe, NetworkRecipe, ObjectiveRecipe, OptimiserRecipe, RunRecipe)
        for field in dataclasses.fields(kind)
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(
    values=st.dictionaries(
        st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3), max_size=3
    )
)
def test_anything_at_all_gives_a_recipe_that_can_be_written_or_a_run_problem(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    try:
        recipe = Recipe.from_json(values)
    except RunProblem as problem:
        assert problem.what
    else:
        recipe.write(tmp_path / "r.toml")
        assert read_recipe(tmp_path / "r.toml") == recipe


def test_every_number_has_its_range() -> None:
    """A number that is added to the recipe is given one, and its default lies within."""
    numbers = {name for name, value in numbers_of(Recipe()).items() if type(value) in (int, float)}
    assert numbers == set(RANGES) | {"data.bits", "upper.factor"}  # which are one of a few
    Recipe.from_json(Recipe().to_json())


def test_the_recipes_that_ship_are_good() -> None:
    shipped = sorted((paths.resources() / "recipes").glob("*.toml"))
    assert shipped
    for file in shipped:
        recipe = read_recipe(file)
        assert recipe.name
        assert recipe.description
        assert recipe.data.size % recipe.network.patch == 0
        assert recipe.network.width % (4 * recipe.network.heads) == 0


def test_a_recipe_is_changed_by_replacing() -> None:
    longer = replace(Recipe(), run=replace(Recipe().run, steps=9))
    assert (longer.run.steps, Recipe().run.steps) == (9, 6000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        longer.name = "other"  # type: ignore[misc]


def test_ranges_of_values_are_kept_by_type_and_must_rise() -> None:
    ranges = {SampleType.UINT16: (0.0, 4095.0), SampleType.FLOAT: (-1.0, 1.0)}
    assert RangesRecipe.of(ranges).as_mapping() == ranges
    assert RangesRecipe().as_mapping() == {} and Recipe.from_json({"data": {"size": 32}}).data.ranges == RangesRecipe()
    for limits in ([1.0], [2.0, 1.0], [0.0, 1.0, 2.0]):
        with pytest.raises(RunProblem, match="two rising numbers"):
            Recipe.from_json({"data": {"ranges": {"uint16": limits}}})


def test_the_ranges_in_a_checkpoints_header_are_found_absent_or_invalid() -> None:
    stored = Recipe(data=DataRecipe(ranges=RangesRecipe(uint16=(0.0, 4095.0)))).to_json()
    assert ranges_of_recipe(stored) == {SampleType.UINT16: (0.0, 4095.0)}
    for values in (Recipe().to_json(), {}, None, {"data": 3}):
        assert ranges_of_recipe(values) == {}
    with pytest.raises(RunProblem):
        ranges_of_recipe({"data": {"ranges": {"uint16": "wide"}}})


def test_a_run_of_an_earlier_version_keeps_its_classes_and_its_split() -> None:
    """Its recipe has every value but those that came later: its classes were the first subfolders."""
    values = Recipe().to_json()
    assert Recipe.from_run(values).data.classes is ClassesName.FOLDERS
    del values["data"]["classes"]
    assert Recipe.from_run(values).data.classes is ClassesName.FIRST_FOLDER
    assert Recipe.from_run(values).data.sequences_together
    del values["data"]["sequences_together"]  # whose held-out part can be made again
    assert not Recipe.from_run(values).data.sequences_together and Recipe.from_json(values).data.sequences_together
    assert "classes" not in values["data"]
    assert Recipe.from_json(values).data.classes is ClassesName.FOLDERS
    with pytest.raises(RunProblem):
        Recipe.from_run([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "prediction", "weighting", "learned"),
    [
        ("flow", "velocity", "auto", False),
        ("edm", "edm", "auto", True),
        ("eps", "eps", "auto", False),
        ("v", "v", "auto", False),
        ("x0", "x0", "min_snr", False),
    ],
)
def test_a_kind_of_diffusion_is_short_for_its_settings(
    kind: str, prediction: str, weighting: str, learned: bool
) -> None:
    objective = Recipe.from_json({"objective": {"kind": kind}}).objective
    assert objective.kind is ObjectiveName.DIFFUSION
    found = objective.prediction, objective.weighting, objective.learned_variance
    assert found == (prediction, weighting, learned)
    own = Recipe.from_json({"objective": {"kind": kind, "weighting": "uniform", "mean": 0.1}}).objective
    assert (own.weighting, own.mean, own.prediction) == ("uniform", 0.1, prediction)


def test_edm_has_the_noise_levels_of_its_paper() -> None:
    objective = Recipe.from_json({"objective": {"kind": "edm"}}).objective
    assert (objective.noise_levels, objective.mean, objective.deviation) == (NoiseLevelsName.LOG_NORMAL, -1.2, 1.2)


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_only_diffusion_models_have_dropout(kind: str) -> None:
    values = {"objective": {"kind": kind}, "optimiser": {"name": "adam"}, "network": {"dropout": 0.1}}
    with pytest.raises(RunProblem, match=f"a {kind.upper()} has no dropout"):
        Recipe.from_json(values)
    assert Recipe.from_json({"network": {"dropout": 0.1}}).network.dropout == 0.1


@pytest.mark.parametrize("kind", ["noise", 3, None])
def test_an_unknown_kind_is_refused(kind: object) -> None:
    with pytest.raises(RunProblem, match="recipe.objective.kind"):
        Recipe.from_json({"objective": {"kind": kind}})
    with pytest.raises(RunProblem, match="recipe.objective"):
        Recipe.from_json({"objective": 3})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"few_steps": {"enabled": True}, "objective": {"kind": "vae"}, "optimiser": {"name": "adam"}}, "in one call"),
        ({"few_steps": {"enabled": True}, "upper": {"factor": 2}}, "the recipe has an upper level"),
        ({"few_steps": {"guidance_interval": [0.9, 0.1]}}, "two numbers from 0 to 1, the lower one first"),
    ],
)
def test_what_cannot_be_tuned_to_few_steps_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(RunProblem, match=rf"recipe\.few_steps\..*{why}"):
        Recipe.from_json(values)


def test_the_minimum_timestep_is_left_to_the_images_unless_it_is_set() -> None:
    def of(prediction: Prediction, minimum: float = -1.0, **others: Any) -> tuple[float, bool]:
        run, objective = RunRecipe(sample_min_timestep=minimum), ObjectiveRecipe(prediction=prediction)
        recipe = Recipe(run=run, objective=objective, **others)
        return recipe.min_timestep, recipe.chooses_min_timestep

    assert of(Prediction.X0) == (0, True) and of(Prediction.X0, 0.1) == (0.1, False)
    for prediction in set(Prediction) - {Prediction.X0}:
        assert of(prediction) == (MIN_TIMESTEP, True) and of(prediction, 0.0) == (0, False)
    assert of(Prediction.VELOCITY, few_steps=FewStepsRecipe(enabled=True)) == (0, False)
    values = Recipe(objective=ObjectiveRecipe(prediction=Prediction.EDM)).to_json()
    assert Recipe.from_run(values).chooses_min_timestep
    del values["run"]["sample_min_timestep"]  # a run before there was one
    assert Recipe.from_run(values).min_timestep == 0 and Recipe.from_json(values).min_timestep == MIN_TIMESTEP
