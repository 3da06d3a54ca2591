"""Which of two or more judged checkpoints is chosen, and how that is said."""

from __future__ import annotations

from dataclasses import asdict, replace

from diffstudio.training.evidence.checkpoint_choice import CheckpointChoice, JudgedCheckpoint, is_copying


def test_copies_outweigh_a_smaller_distance() -> None:
    def choice(*judged: JudgedCheckpoint) -> int:
        return CheckpointChoice.by_images(judged, 256, 100).chosen

    near, copying = JudgedCheckpoint(100, 0.2, 3), JudgedCheckpoint(200, 0.1, 60)
    assert not is_copying(3, 256) and is_copying(60, 256) and not is_copying(0, 0)
    assert choice(near, copying) == 100 and choice(near, replace(copying, copied=10)) == 200
    assert choice(replace(near, copied=80), copying) == 200  # the fewest, where all copy


def test_the_sentence_has_the_numbers_of_each_and_which_has_the_lowest_loss() -> None:
    choice = CheckpointChoice.by_images([JudgedCheckpoint(2000, 0.1, 0), JudgedCheckpoint(100, 0.2, 3)], 256, 100)
    assert choice.sentence == (
        "The checkpoint of step 2,000 is kept: its images are nearer to the held-out ones. With 256 images each, step 100 "
        "(lowest held-out loss) has an energy distance of 0.2000 and 3 near-copies; step 2,000 has an energy distance of "
        "0.1000 and no copies."
    )
    assert not choice.by_copies and choice.kept.distance == 0.1
    assert choice.was_made_at(2000) and not choice.was_made_at(2100)
    assert CheckpointChoice.from_json(asdict(choice)) == choice and choice.between_steps
    copying = CheckpointChoice.by_images([JudgedCheckpoint(2000, 0.1, 90), JudgedCheckpoint(100, 0.2, 3)], 256, 100)
    assert copying.by_copies and "but more of them are copies of training images" in copying.reason
    three = [JudgedCheckpoint(2000, 0.1, 0), JudgedCheckpoint(100, 0.2, 3), JudgedCheckpoint(900, 0.3, 0)]
    assert CheckpointChoice.by_images(three, 256, 100).reason == "its images are nearest to the held-out ones"


def test_of_checkpoints_that_copy_equally_the_nearer_one_is_kept() -> None:
    copying = [JudgedCheckpoint(100, 0.2, 30), JudgedCheckpoint(200, 0.1, 30)]
    choice = CheckpointChoice.by_images(copying, 64, 100)
    assert choice.chosen == 200 and not choice.by_copies


def test_a_checkpoint_may_be_kept_with_another_minimum_timestep() -> None:
    as_it_is = JudgedCheckpoint(2000, 0.3, 0)
    choice = CheckpointChoice.by_images([replace(as_it_is, distance=0.1, min_timestep=0.2), as_it_is], 256, 2000)
    assert (choice.chosen, choice.min_timestep, choice.kept.distance, choice.by_copies) == (2000, 0.2, 0.1, False)
    assert choice.sentence == (
        "The checkpoint of step 2,000 is kept with a minimum timestep of 0.2: its images are nearer to the held-out ones. "
        "With 256 images each, step 2,000 (lowest held-out loss) with a minimum timestep of 0 has an energy distance of "
        "0.3000 and no copies; step 2,000 (lowest held-out loss) with a minimum timestep of 0.2 has an energy distance of "
        "0.1000 and no copies."
    )
    assert CheckpointChoice.from_json(asdict(choice)) == choice and not choice.between_steps


def test_equal_distances_are_not_called_nearer_nor_copies() -> None:
    same = JudgedCheckpoint(10, 1.0, 0)
    choice = CheckpointChoice.by_images([replace(same, min_timestep=0.2), same], 64, 10)
    assert choice.min_timestep == 0.2 and not choice.by_copies
    assert choice.reason == "no images are nearer to the held-out ones"
