import hashlib

import numpy as np
import pytest

from handful.birds import DIFFICULTIES, PART_NAMES, PARTS, ToyBirdsDataset, render
from handful.birds.geometry import ellipse, place, points, smooth, stroke
from handful.errors import UserError

SCENES = 12


@pytest.fixture(scope="module", params=sorted(DIFFICULTIES))
def birds(request):
    return ToyBirdsDataset("train", 6, 10, size=48, difficulty=request.param)


def changed(one, other):
    return (one.image != other.image).any(axis=2)


@pytest.mark.parametrize("part", PART_NAMES)
def test_removing_a_part_changes_nothing_outside_its_mask(birds, part):
    number = PART_NAMES.index(part)
    seen = 0
    for index in range(SCENES):
        whole, bare = birds.rendering(index), birds.rendering(index, remove={part})
        difference = changed(whole, bare)
        assert not (difference & ~whole.masks[number]).any()
        assert not bare.masks[number].any()
        seen += difference.sum() > 0.5 * (whole.coverage[number] > 0.5).sum()
        # what other parts show can only grow, and only where the part was
        grown = bare.coverage - whole.coverage
        others = np.arange(len(PART_NAMES)) != number
        assert (grown[others] >= 0).all()
        assert not (grown[others].any(axis=0) & ~whole.masks[number]).any()
    assert seen == SCENES


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_replacing_a_part_changes_nothing_outside_both_masks(birds, part):
    number = PART_NAMES.index(part.name)
    for index in range(4):
        scene = birds.scene(index)
        whole = birds.rendering(index)
        for variant in range(len(part.variants)):
            other = birds.rendering(index, replace={part.name: variant})
            if variant == scene.variants[part.name]:
                assert not changed(whole, other).any()
            else:
                assert changed(whole, other).any()
                assert not (changed(whole, other) & ~whole.masks[number] & ~other.masks[number]).any()


def test_removing_the_bird_leaves_the_background(birds):
    for index in range(SCENES):
        whole, empty = birds.rendering(index), birds.rendering(index, remove={"bird"})
        assert not empty.masks.any()
        assert not empty.bird.any()
        assert not (changed(whole, empty) & ~(whole.bird > 0)).any()
        all_parts = birds.rendering(index, remove=[*PART_NAMES, "body"])
        assert not changed(empty, all_parts).any()
        body_alone = birds.rendering(index, remove=PART_NAMES)
        assert body_alone.bird.sum() > 0


def test_every_part_is_seen_and_lies_at_its_position(birds):
    for index in range(len(birds)):
        drawn = birds.rendering(index)
        for number in range(len(PARTS)):
            coverage = drawn.coverage[number]
            assert coverage.sum() > 1.5, (index, PART_NAMES[number])
            rows, columns = np.nonzero(coverage)
            x, y = drawn.positions[number]
            reach = 0.55 * birds.scene(index).pose.scale * birds.size
            assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).min() < 0.4 * reach
            assert np.hypot((columns + 0.5).mean() - x, (rows + 0.5).mean() - y) < reach
        assert (drawn.coverage.sum(axis=0) <= drawn.bird + 1e-6).all()


def test_a_picture_is_the_same_at_every_size():
    small, large = (ToyBirdsDataset("train", 6, 10, size=size).rendering(3) for size in (32, 96))
    shrunk = large.coverage.reshape(len(PARTS), 32, 3, 32, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small.coverage).mean() < 0.004
    blocks = large.image.reshape(32, 3, 32, 3, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(blocks - small.image).mean() < 6
    np.testing.assert_allclose(large.positions, 3 * small.positions)


def test_the_drawing_is_pinned():
    """The embedded data set is the same everywhere; redrawn birds mean new numbers in every record."""
    birds = ToyBirdsDataset("train", 6, 10, size=64, difficulty="medium")
    total = np.stack([birds.rendering(index).coverage for index in range(8)]).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(total, PINNED_COVERAGE, rtol=0.02)


PINNED_COVERAGE = [211.5, 1270.8, 842.3, 836.2, 249.3, 274.6]  # visible pixels of each part, eight pictures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"remove": {"ear"}}, "no part 'ear'; its parts are beak, wing, tail, breast, eye, feet, body, bird"),
        ({"replace": {"ear": 0}}, "no part 'ear'"),
        ({"replace": {"beak": 5}}, "The part 'beak' has the variants 0 to 4, not 5"),
        ({"replace": {"beak": -1}}, "not -1"),
    ],
)
def test_unknown_parts_and_variants_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        ToyBirdsDataset().rendering(0, **arguments)


def test_a_picture_too_small_is_refused():
    with pytest.raises(UserError, match="size must be at least 16 pixels, not 15"):
        render(ToyBirdsDataset().scene(0), 15)


# -- geometry ---------------------------------------------------------------------------------------------------------


def test_placing_mirrors_turns_scales_and_moves_in_this_order():
    shape = points("1,0 0,1")
    np.testing.assert_allclose(place(shape, 10, 20, 2, 90), [[10, 22], [8, 20]], atol=1e-12)
    np.testing.assert_allclose(place(shape, 0, 0, 1, 0, mirrored=True), [[-1, 0], [0, 1]], atol=1e-12)
    np.testing.assert_allclose(place(shape, 0, 0, 1, 90, mirrored=True), [[0, -1], [-1, 0]], atol=1e-12)


def test_a_smooth_outline_passes_through_its_corners_and_an_ellipse_has_its_radii():
    corners = points("0,0 4,0 4,3 0,3")
    np.testing.assert_allclose(smooth(corners, 5)[::5], corners)
    outline = ellipse(1, 2, 3, 4, corners=40)
    np.testing.assert_allclose(((outline - [1, 2]) ** 2 / [9, 16]).sum(axis=1), 1)
    np.testing.assert_allclose(stroke(points("0,0 2,0"), 1), [[0, 0.5], [2, 0.5], [2, -0.5], [0, -0.5]])


def digest(images):
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


def test_drawing_again_gives_the_same_bytes():
    first, second = (ToyBirdsDataset("val", 5, 4, size=40, difficulty="hard", seed=3) for _ in range(2))
    assert digest(first.rendering(i).image for i in range(20)) == digest(second.rendering(i).image for i in range(20))
