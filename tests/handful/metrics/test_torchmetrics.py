"""Every metric through torchmetrics' own machinery: merged, saved, drawn, in collections, on two processes."""

import copy
import io
import pickle

import pytest
import torch
from matplotlib import pyplot
from torchmetrics import MetricCollection

from handful.attribution import register, unregister
from handful.errors import UserError
from handful.metrics import (
    Histogram,
    Mean,
)
from handful.metrics.episodes import EpisodeAccuracy
from handful.metrics.faithfulness import InsertionAUC
from handful.metrics.parameter_randomisation import ParameterRandomisation
from tests.handful.metrics.every_metric import EVERY, MODEL, NUMBERS, numbers_of
from tests.handful.metrics.test_degenerate import CASES
from tests.helpers.two_processes import every_second, on_two_processes

FIRST, REST, ALL, NONE = slice(0, 4), slice(4, None), slice(None), slice(0, 0)
#: An episode is a whole, and none is empty.
BATCHED = {metric: case for metric, case in EVERY.items() if metric is not EpisodeAccuracy}

every = pytest.mark.parametrize(("make", "given"), EVERY.values(), ids=[metric.__name__ for metric in EVERY])
batched = pytest.mark.parametrize(("make", "given"), BATCHED.values(), ids=[metric.__name__ for metric in BATCHED])


def fed(make, given, *batches, **options):
    metric = make(**options)
    for rows in batches:
        metric.update(**given(rows))
    return metric


def test_a_shallow_copy_leaves_the_original_as_it_was():
    original = Mean()
    number = original._defaults["own_number"].clone()
    copied = copy.copy(original)
    assert torch.equal(original._defaults["own_number"], number)
    assert not torch.equal(copied._defaults["own_number"], number)
    original.reset()
    assert torch.equal(original.own_number, number)


def close(one, other):
    return torch.allclose(numbers_of(one), numbers_of(other), rtol=1e-12, atol=1e-14, equal_nan=True)


def test_no_metric_is_missing():
    assert set(EVERY) == set(CASES)


@every
def test_two_that_were_fed_apart_merge(make, given):
    expected = fed(make, given, FIRST, REST).compute()
    for incoming in (fed(make, given, REST), fed(make, given, REST).metric_state):
        metric = fed(make, given, FIRST)
        metric.merge_state(incoming)
        assert close(metric.compute(), expected)
    metric.merge_state(make())  # that has seen nothing
    assert close(metric.compute(), expected)


@every
def test_sums_go_through_a_state_dict_and_a_pickle(make, given):
    expected = fed(make, given, FIRST, REST).compute()
    saved, restored = fed(make, given, FIRST), make()
    saved.persistent(True)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for metric in (restored, pickle.loads(pickle.dumps(saved)), saved.clone()):
        metric.update(**given(REST))
        assert close(metric.compute(), expected)
    assert not make().state_dict()


@every
def test_a_collection_keeps_them_apart(make, given):
    metrics = MetricCollection({"one": make(), "other": make()}).clone()
    for rows in (FIRST, REST):
        metrics.update(**given(rows))
    assert len(metrics.compute_groups) == 2
    expected = fed(make, given, FIRST, REST).compute()
    assert close(metrics["one"].compute(), expected)
    metrics["other"].reset()
    assert close(metrics["one"].compute(), expected)


@batched
def test_a_batch_without_an_image_adds_nothing(make, given):
    metric = fed(make, given, FIRST, NONE)
    metric.update(**given(REST))
    assert close(metric.compute(), fed(make, given, FIRST, REST).compute())


@every
def test_the_options_of_torchmetrics(make, given):
    assert fed(make, given, FIRST, compute_with_cache=False, sync_on_compute=False).compute_with_cache is False


@every
def test_exact_sums_stay_exact(make, given):
    metric = make()
    with pytest.warns(UserWarning, match="keeps its sums in float64"):
        metric.set_dtype(torch.float32)
    metric.half().update(**given(ALL))
    assert close(metric.compute(), fed(make, given, ALL).compute())


@every
def test_it_draws_itself(make, given):
    metric = fed(make, given, FIRST)
    found = metric.compute()
    for value in (None, found, [found, found]):
        figure, axes = metric.plot(value)
        assert figure is not None
        assert axes.has_data()
    _, (left, right) = pyplot.subplots(1, 2)
    metric.plot(ax=right)
    assert right.has_data()
    assert not left.has_data()
    pyplot.close("all")


def test_a_histogram_draws_its_counts():
    histogram = Histogram(2, bins=8)
    histogram.update(torch.tensor([[0.0, 1.0], [7.5, 3.0]]))
    _, axes = histogram.plot()
    assert [patch.get_data().values.tolist() for patch in axes.patches] == histogram.compute()[0].tolist()
    pyplot.close("all")


def test_a_metric_that_was_unpickled_is_not_taken_for_a_new_one():
    """Numbers of two processes may coincide."""
    new = Mean()
    old = pickle.loads(pickle.dumps(new))
    both = MetricCollection({"new": new, "old": old})
    both.update([0.0])
    both["new"].update([1.0])
    assert {name: float(value) for name, value in both.compute().items()} == {"new": 0.5, "old": 0.0}


def test_an_update_that_fails_adds_nothing():
    calls = iter([True, True, True, True, True, False])

    @register("fails_at_last", reduction="none")
    def fails_at_last(context):
        if not next(calls):
            raise UserError("no maps")
        return context.images[:, None].sum(2).expand(-1, context.targets.count, -1, -1)

    try:
        metric = ParameterRandomisation("fails_at_last", ["3", "1"])
        metric.update(MODEL, NUMBERS["images"])
        before = {name: state.clone() for name, state in metric.metric_state.items()}
        with pytest.raises(UserError, match="no maps"):
            metric.update(MODEL, NUMBERS["images"])
    finally:
        unregister("fails_at_last")
    assert all(torch.equal(metric.metric_state[name], state) for name, state in before.items())


def measured(rows):
    return {
        metric.__name__: numbers_of(fed(make, given, *([] if rows is None else [rows])).compute()).tolist()
        for metric, (make, given) in BATCHED.items()
    }


def _of_rank(rank):
    return measured(every_second(rank)), measured(None if rank else ALL)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_of_an_odd_number_of_images_and_one_without_any():
    first, second = on_two_processes(_of_rank)
    expected = measured(ALL)
    for name, values in expected.items():
        assert first[0][name] == pytest.approx(second[0][name], nan_ok=True, rel=0, abs=0), name
        for found in first:
            assert found[name] == pytest.approx(values, rel=1e-12, abs=1e-14, nan_ok=True), name


@pytest.mark.parametrize("metric", [InsertionAUC, ParameterRandomisation])
def test_images_that_are_none_are_refused(metric):
    make, given = EVERY[metric]
    with pytest.raises(UserError, match="images"):
        make().update(**given(ALL) | {"images": None})
