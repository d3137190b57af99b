"""What sets cannot be made of is one sentence, and never an empty set in silence."""

import math

import pytest
import torch

from handful.conformal import (
    Hierarchy,
    adaptive_scores,
    calibrate,
    class_paths,
    set_quality,
    stratified_halves,
    threshold_scores,
)
from handful.errors import UserError

SCORES = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 4
NAN = SCORES.clone()
NAN[3, 1] = math.nan
ASSIGNMENT = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool()
PRESENT = torch.rand(5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("scores", "labels", "coverage", "words"), [
    (NAN, LABELS, 0.5, "scores: hold NaN"),
    (SCORES[:, 0], LABELS, 0.5, "scores: expected"),
    (SCORES.long(), LABELS, 0.5, "scores: expected floating point"),
    ([["a"]], LABELS, 0.5, "scores: expected numbers"),
    (SCORES, LABELS[:-1], 0.5, "labels: expected 12"),
    (SCORES, LABELS + 1, 0.5, "4 lies outside the 4 classes"),
    (SCORES, LABELS + 0.5, 0.5, "fraction or NaN"),
    (SCORES, LABELS, math.nan, "conformal: nan lies outside"),
    (SCORES, LABELS, math.inf, "conformal: inf lies outside"),
    (SCORES, LABELS, "most", "conformal: expected a number, got 'most'"),
    (SCORES, LABELS, True, "conformal: expected a number, got True"),
    (SCORES, LABELS, -0.1, "a coverage between 0 and 1, not -0.1"),
    (SCORES, LABELS, 0.93, "calibration by 12 images; a coverage of 0.93 needs 14"),
    (SCORES[:0], LABELS[:0], 0.5, "calibration by 0 images; a coverage of 0.5 needs 1"),
], ids=lambda value: str(value)[:12])  # fmt: skip
def test_what_does_not_calibrate(scores, labels, coverage, words):
    with pytest.raises(UserError, match=words):
        calibrate(scores, labels, coverage)


@pytest.mark.parametrize("images", [9, 10, 14, 19, 99, 100])
def test_as_few_images_as_the_sentence_names_are_enough(images):
    """The smallest coverage that so many images do not reach names the number of images that does."""
    coverage = images / (images + 1) + 1e-3
    scores, labels = torch.rand(images, 2), torch.zeros(images, dtype=torch.int64)
    with pytest.raises(UserError, match="needs") as refused:
        calibrate(scores, labels, coverage)
    needed = int(str(refused.value).split()[-1])
    calibrate(torch.rand(needed, 2), torch.zeros(needed, dtype=torch.int64), coverage)
    with pytest.raises(UserError, match=f"needs {needed}$"):
        calibrate(torch.rand(needed - 1, 2), torch.zeros(needed - 1, dtype=torch.int64), coverage)


def test_scores_of_other_classes_or_nan_give_no_sets():
    sets = calibrate(SCORES, LABELS, 0.5)
    for scores, words in ((SCORES[:, :3], "scores: expected"), (NAN, "hold NaN"), (SCORES[0], "scores: expected")):
        with pytest.raises(UserError, match=words):
            sets.of(scores)


@pytest.mark.parametrize("rows", [
    torch.randn(3, 4), torch.tensor([[2.0, -1.0]]), torch.tensor([[math.nan, 0.5]]), torch.tensor([[0.2, 0.2]]),
    torch.tensor([[math.inf, 0.0]]),
], ids=["logits", "negative", "nan", "less", "inf"])  # fmt: skip
@pytest.mark.parametrize("score", [threshold_scores, adaptive_scores])
def test_what_is_no_probability(score, rows):
    with pytest.raises(UserError, match=r"take logits.softmax\(1\)"):
        score(rows)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_of_any_precision_are_some(kind):
    probabilities = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)).softmax(dim=1).to(kind)
    assert threshold_scores(probabilities).shape == adaptive_scores(probabilities).shape == (8, 1000)


@pytest.mark.parametrize(("sets", "labels", "weight", "words"), [
    (torch.zeros(0, 4).bool(), LABELS[:0], None, "sets: Booleans .* at least one image"),
    (SCORES, LABELS, None, "sets: Booleans"),
    (SCORES[0] > 0, LABELS[:1], None, "sets: Booleans"),
    (SCORES > 0.5, LABELS[:-1], None, "labels: expected 12"),
    (SCORES > 0.5, LABELS, torch.zeros(5, 2), "weight: a row for each of the 4 classes"),
    (SCORES > 0.5, LABELS, torch.zeros(4), "weight: a row for each of the 4 classes"),
], ids=["none", "floats", "flat", "labels", "classes", "flat weight"])  # fmt: skip
def test_what_has_no_quality(sets, labels, weight, words):
    with pytest.raises(UserError, match=words):
        set_quality(sets, labels, weight)


@pytest.mark.parametrize(("present", "assignment", "words"), [
    (PRESENT[:, :2], ASSIGNMENT, "present: expected"),
    (PRESENT * math.nan, ASSIGNMENT, "present: holds NaN"),
    (PRESENT, ASSIGNMENT[:0], "binary head"),
    (PRESENT, torch.zeros(3, 3).bool(), "binary head"),
    (PRESENT, torch.tensor([[1, 1, 1], [0, 1, 1]]).bool(), "binary head"),
], ids=["features", "nan", "no classes", "no features", "uneven"])  # fmt: skip
def test_what_has_no_hierarchy(present, assignment, words):
    with pytest.raises(UserError, match=words):
        class_paths(present, assignment)


@pytest.mark.parametrize(("count", "coverage", "words"), [
    (5, 1.5, "between 0 and 1"), (5, 0.0, "between 0 and 1"), (5, math.nan, "conformal"), (0, 0.9, "no images"),
])  # fmt: skip
def test_a_level_that_cannot_be_chosen(count, coverage, words):
    labels = torch.arange(count) % 3
    with pytest.raises(UserError, match=words):
        Hierarchy.fit(PRESENT[:count], labels, labels, ASSIGNMENT, coverage)


def test_labels_that_cannot_be_halved():
    with pytest.raises(UserError, match="labels"):
        stratified_halves(torch.rand(4))
    assert [half.tolist() for half in stratified_halves(torch.zeros(1, dtype=torch.int64))] == [[0], []]
