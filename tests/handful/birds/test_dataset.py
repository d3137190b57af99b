import numpy as np
import pytest
import torch

from handful.birds import (
    PART_NAMES,
    PARTS,
    ToyBirdsDataset,
    attribute_names,
    attribute_vector,
    draw_scene,
    render,
)
from handful.birds.scene import BACKDROPS
from handful.errors import UserError


def test_items_are_images_with_the_label_of_their_class():
    birds = ToyBirdsDataset("train", 5, 4, size=32)
    assert len(birds) == 20
    for index in (0, 7, 19):
        image, label = birds[index]
        assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
        assert label == index % 5 == birds.labels[index]
    for index in (20, -1):
        with pytest.raises(IndexError):
            birds[index]


def test_an_image_depends_on_nothing_but_seed_split_and_index():
    few = ToyBirdsDataset("train", 5, 4, size=32, seed=1)
    many = ToyBirdsDataset("train", 5, 40, size=32, seed=1)
    backwards = {index: many[index][0] for index in reversed(range(20))}
    torch.manual_seed(0)
    assert all(torch.equal(few[index][0], backwards[index]) for index in range(20))
    assert not torch.equal(few[3][0], ToyBirdsDataset("train", 5, 4, size=32, seed=2)[3][0])


def test_splits_share_no_scene():
    scenes = [
        repr(birds.scene(index))
        for split in ("train", "val", "test")
        for birds in [ToyBirdsDataset(split, 5, 30, size=32)]
        for index in range(len(birds))
    ]
    assert len(set(scenes)) == len(scenes) == 450


def test_attributes_are_the_variants_of_the_class():
    birds = ToyBirdsDataset("test", 6, 3, size=32)
    names = attribute_names()
    assert len(names) == sum(len(part.variants) for part in PARTS)
    for index in range(len(birds)):
        bird = birds.classes[birds.scene(index).label]
        expected = {f"{part.name}:{part.variants[bird.variants[part.name]].name}" for part in PARTS}
        vector = birds.attributes(index)
        assert {name for name, value in zip(names, vector.tolist(), strict=True) if value == 1} == expected
        assert vector.sum() == len(PARTS)
    first, second = (attribute_vector(birds.scene(index)).bool() for index in (0, 1))
    differing = {name.split(":")[0] for name, flag in zip(names, first ^ second, strict=True) if flag}
    assert differing == set(birds.classes.differing_parts(0, 1))


@pytest.mark.parametrize("part", PART_NAMES)
def test_parts_that_do_not_decide_say_nothing_about_the_class(part):
    birds = ToyBirdsDataset("train", 4, 100, size=32, deciding_parts=[part], difficulty="hard")
    scenes = [birds.scene(index) for index in range(len(birds))]
    for other in PARTS:
        counts = np.zeros((4, len(other.variants)))
        for scene in scenes:
            counts[scene.label, scene.variants[other.name]] += 1
        if other.name == part:
            assert (counts > 0).sum() == 4
        else:
            expected = counts.sum(0) / 4
            assert ((counts - expected) ** 2 / expected).sum() < 37  # chi square, 12 degrees of freedom, 0.02 %


def test_with_the_deciding_part_alike_two_classes_look_the_same():
    """Nothing but the deciding part carries the class: with it made alike, the pictures are equal to the last bit."""
    birds = ToyBirdsDataset("train", 4, 2, size=48, deciding_parts=["beak"])
    for index in range(4):
        pictures = [
            render(draw_scene(bird, birds.difficulty, birds.seed, index), 48, remove={"beak"}).image
            for bird in birds.classes.classes
        ]
        assert all(np.array_equal(pictures[0], picture) for picture in pictures[1:])


def test_pose_background_and_company_vary():
    birds = ToyBirdsDataset("train", 5, 40, size=32, difficulty="hard")
    scenes = [birds.scene(index) for index in range(len(birds))]
    assert {scene.backdrop.kind for scene in scenes} == set(BACKDROPS)
    assert 60 < sum(scene.pose.facing_left for scene in scenes) < 140
    for values in ([s.pose.angle for s in scenes], [s.pose.scale for s in scenes], [s.pose.x for s in scenes]):
        assert len(set(values)) == len(scenes)
    assert {len(scene.occluders) for scene in scenes} == {1, 2, 3}
    assert {len(scene.distractors) for scene in scenes} == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "holdout"}, "split must be train, val or test, not 'holdout'"),
        ({"difficulty": "absurd"}, "difficulty must be one of easy, medium, hard, not 'absurd'"),
        ({"images_per_class": -1}, "images_per_class must not be negative"),
        ({"size": 15}, "size must be at least 16 pixels, not 15"),
        ({"seed": -1}, "seed must not be negative, not -1"),
        ({"n_classes": 1}, "n_classes must be at least 2"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        ToyBirdsDataset(**arguments)
