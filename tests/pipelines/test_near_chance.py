"""Accuracies that guessing reaches are said, with what to do."""

import pytest

from pipelines.results import near_chance, write_results


def results(accuracy, classes=10, images=500):
    row = {"accuracy": accuracy, "balanced_accuracy": accuracy}
    return {"stages": {"dense": row}, "data": {"num_classes": classes, "images": {"test": images}}}


@pytest.mark.parametrize(
    ("accuracy", "classes", "images", "said"),
    [(10.0, 10, 500, True), (13.9, 10, 500, True), (14.2, 10, 500, False), (0.5, 100, 3000, True),
     (2.0, 100, 3000, False), (50.0, 2, 20, True), (90.0, 2, 20, False)],
)  # fmt: skip
def test_what_three_deviations_of_guessing_reach_is_said(accuracy, classes, images, said):
    assert bool(near_chance(results(accuracy, classes, images))) == said


def test_it_is_a_warning_with_what_to_do_beneath_the_table(tmp_path, capsys):
    with pytest.warns(UserWarning, match=r"stage dense: balanced accuracy 10\.0 %.*--network\.pretrained true"):
        write_results(tmp_path, results(10.0))
    assert "written to" in capsys.readouterr().out


def test_results_without_what_it_needs_say_nothing():
    assert near_chance({"stages": {"one": {"accuracy": 1.0}}, "data": {"num_classes": 3, "images": {"test": 9}}}) == []
    assert near_chance({"stages": {"dense": {"balanced_accuracy": 1.0}}}) == []
