"""Sets of classes: the guarantee by simulation, the hierarchy by hand, bad input."""

import itertools

import pytest
import torch

from handful.conformal import (
    Hierarchy,
    adaptive_scores,
    calibrate,
    class_paths,
    set_quality,
    shared_steps,
    stratified_halves,
    threshold_scores,
)
from handful.conformal.hierarchy import level_sizes
from handful.errors import UserError

ASSIGNMENT = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 1, 1]]).bool()


def synthetic(images, seed, sizes=(30, 11, 22, 17)):
    """Images of classes of unequal size: present features, probabilities, labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(sizes).float(), images, True, generator=generator)
    present = (torch.randn(images, 6, generator=generator) + 1.5 * ASSIGNMENT[labels].float()).clamp(min=0)
    return present, (present @ ASSIGNMENT.float().T).softmax(dim=1), labels


SCORES = {
    "thr": lambda present, probabilities, seed: threshold_scores(probabilities),
    "aps": lambda present, probabilities, seed: adaptive_scores(probabilities, seed),
    "hierarchy": lambda present, probabilities, seed: Hierarchy(ASSIGNMENT, 1).scores(
        present, probabilities.argmax(dim=1)
    ),
}


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("method", SCORES)
def test_the_sets_hold_the_true_class_as_often_as_asked_for(method, coverage):
    """Over 200 calibrations of 99 images each: the mean is what it has to be, no less."""
    found = []
    for trial in range(200):
        present, probabilities, labels = synthetic(99 + 200, trial)
        scores = SCORES[method](present, probabilities, trial)
        sets = calibrate(scores[:99], labels[:99], coverage).of(scores[99:])
        found.append(set_quality(sets, labels[99:]).coverage)
    mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / 200**0.5
    assert mean >= coverage - 3 * error
    if method != "hierarchy":  # whose scores are equal for many classes
        assert mean <= coverage + 0.01 + 3 * error


def test_every_class_by_itself():
    _, probabilities, labels = synthetic(4000, 0)
    scores = threshold_scores(probabilities)
    sets = calibrate(scores[:2000], labels[:2000], 0.9, per_class=True)
    assert set_quality(sets.of(scores[2000:]), labels[2000:]).worst_class > 0.85
    together = calibrate(scores[:2000], labels[:2000], 0.9)
    worst = set_quality(together.of(scores[2000:]), labels[2000:]).worst_class
    assert worst < set_quality(sets.of(scores[2000:]), labels[2000:]).worst_class


def test_the_place_of_the_limit_by_hand():
    scores = torch.arange(1, 10)[:, None] / 10 * torch.ones(9, 2)
    assert calibrate(scores, torch.zeros(9, dtype=torch.int64), 0.9).limits[0] == pytest.approx(0.9)
    assert calibrate(scores, torch.zeros(9, dtype=torch.int64), 0.5).limits[0] == pytest.approx(0.5)


@pytest.mark.parametrize(("coverage", "per_class", "words"), [
    (1.0, False, "between 0 and 1, not 1"),
    (0.0, False, "between 0 and 1, not 0"),
    (0.95, False, "calibration by 12 images; a coverage of 0.95 needs 19"),
    (0.9, True, "calibration of class 0 by 3 images; a coverage of 0.9 needs 9"),
])  # fmt: skip
def test_too_few_images_are_one_sentence(coverage, per_class, words):
    with pytest.raises(UserError, match=words):
        calibrate(torch.rand(12, 4), torch.arange(12) % 4, coverage, per_class)


def test_paths_and_shared_steps_by_hand():
    present = torch.tensor([[3.0, 2.0, 1.0, 1.5, 0.0, 4.0]])
    features, values = class_paths(present, ASSIGNMENT)
    assert features[0].tolist() == [[0, 1, 2], [0, 1, 3], [0, 3, -1], [5, 2, -1]]
    assert values[0, 1].tolist() == [3.0, 2.0, 1.5]
    predicted = torch.tensor([0])
    assert shared_steps(features, predicted).tolist() == [[3, 2, 1, 0]]
    assert level_sizes(features, predicted).tolist() == [[4, 3, 2, 1]]
    # level 1: the first feature off the path, and what is shared beyond the first step
    assert Hierarchy(ASSIGNMENT, 1).scores(present, predicted).tolist() == [[-3.0, -3.5, -1.5, 0.0]]


def test_the_level_is_the_highest_that_keeps_the_true_class():
    present, probabilities, labels = synthetic(2000, 1)
    predicted = probabilities.argmax(dim=1)
    levels = [Hierarchy.fit(present, predicted, labels, ASSIGNMENT, c).level for c in (0.999, 0.8, 0.3)]
    assert levels == sorted(levels)
    assert levels[0] == 0
    steps = shared_steps(class_paths(present, ASSIGNMENT)[0], predicted).gather(1, labels[:, None])
    assert (steps >= levels[1]).double().mean() >= 0.8
    assert (steps >= levels[1] + 1).double().mean() < 0.8


def test_an_uneven_head_has_no_hierarchy():
    with pytest.raises(UserError, match="binary head"):
        class_paths(torch.rand(2, 3), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool())


def test_halves_are_stratified_whatever_the_order_of_the_images():
    labels = torch.arange(5).repeat_interleave(torch.tensor([30, 11, 22, 17, 1]))
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    first, second = stratified_halves(shuffled, seed=1)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(labels)))
    for c in range(5):
        counts = [int((shuffled[half] == c).sum()) for half in (first, second)]
        assert abs(counts[0] - counts[1]) <= 1
    assert stratified_halves(shuffled, seed=1)[0].equal(first)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("method", ["thr", "aps"])
def test_halves_are_alike_where_classes_have_odd_numbers_of_images(images, method):
    """Every second class is hard: were these always in the same half, coverage would be 0.1 to 0.45 below."""
    labels = torch.arange(60).repeat_interleave(images)
    found = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(len(labels), 60, generator=generator, dtype=torch.float64)
        logits[torch.arange(len(labels)), labels] += torch.where(labels % 2 == 0, 8.0, 0.0)
        scores = SCORES[method](None, logits.softmax(dim=1), seed)
        first, second = stratified_halves(labels, seed)
        found.append(set_quality(calibrate(scores[first], labels[first], 0.9).of(scores[second]), labels[second]))
    coverages = torch.tensor([one.coverage for one in found])
    assert coverages.mean() >= 0.9 - 3 * coverages.std() / 200**0.5
    assert coverages.mean() <= 0.9 + 1 / (30 * images) + 3 * coverages.std() / 200**0.5


def test_quality_by_hand():
    sets = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    found = set_quality(sets, torch.tensor([0, 1, 2]), ASSIGNMENT.float())
    assert found.coverage == pytest.approx(2 / 3)
    assert (found.size, found.single, found.empty) == (1.0, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found.coherence == pytest.approx(2 / 4)
    assert found.worst_class == 0
    assert found.interval[0] < found.coverage < found.interval[1]


def test_classes_alike_in_their_attributes():
    """Σ min / Σ max of the two classes' shares; with Booleans, the share in common."""
    sets = torch.tensor([[1, 1, 0, 0]]).bool()
    attributes = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0, 0, 1], [0, 0, 1]])
    found = set_quality(sets, torch.tensor([0]), ASSIGNMENT.float(), attributes)
    assert found.attribute_coherence == pytest.approx(1.0 / 2.5)
    assert found.coherence == pytest.approx(2 / 4)
    assert set_quality(sets, torch.tensor([0])).attribute_coherence is None
    same = set_quality(sets, torch.tensor([0]), ASSIGNMENT.float(), ASSIGNMENT.float())
    assert same.attribute_coherence == same.coherence


def test_aps_by_hand():
    probabilities = torch.tensor([[0.5, 0.2, 0.3]], dtype=torch.float64)
    assert adaptive_scores(probabilities, None)[0].tolist() == pytest.approx([0.5, 1.0, 0.8])
    drawn = adaptive_scores(probabilities, 0)[0]
    assert ((drawn >= torch.tensor([0.0, 0.8, 0.5])) & (drawn <= torch.tensor([0.5, 1.0, 0.8]))).all()
    assert all(adaptive_scores(probabilities, s).equal(adaptive_scores(probabilities, s)) for s in (0, 1))
    assert len(list(itertools.chain(drawn))) == 3
