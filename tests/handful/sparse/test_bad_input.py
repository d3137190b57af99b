"""What people hand in by mistake: one clear sentence, or the documented behaviour."""

from functools import partial

import pytest
import torch

from handful.errors import UserError
from handful.sparse import ElasticNetClassifier, elastic_net_path, fit_sparse_layer, select_features
from tests.handful.sparse.problems import planted, small

X, Y = small(n=120, f=10, c=4, dtype=torch.float32)


def with_value(value):
    bad = X.clone()
    bad[17, 3] = value
    return bad


CASES = {
    "nan": (with_value(float("nan")), Y, {}, "row 17, feature 3 is nan"),
    "infinite": (with_value(float("inf")), Y, {}, "row 17, feature 3 is inf"),
    "label too large": (X, Y, {"num_classes": 3}, "labels: 3 lies outside"),
    "negative label": (X, Y - 1, {}, "labels: -1 lies outside"),
    "class without sample": (X, Y, {"num_classes": 6}, "no sample of class 4, 5"),
    "gap in the labels": (X, torch.where(Y == 2, 3, Y), {}, "no sample of class 2"),
    "one class": (X, torch.zeros_like(Y), {}, "two classes"),
    "fractions for labels": (X, Y + 0.5, {}, "expected integers"),
    "too few labels": (X, Y[:-1], {}, "expected 120 of them"),
    "alpha": (X, Y, {"alpha": 1.5}, "alpha: 1.5 lies outside"),
    "alpha below": (X, Y, {"alpha": -0.1}, "alpha: -0.1 lies outside"),
}


CALLS = {
    "path": partial(elastic_net_path, n_lambdas=3),
    "select": partial(select_features, n_features=3),
    "layer": partial(fit_sparse_layer, n_features=3, features_per_class=2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("call", CALLS)
def test_bad_input_is_refused_in_one_sentence(case, call):
    features, labels, options, says = CASES[case]
    with pytest.raises(UserError, match=says):
        CALLS[call](features, labels, **options)


def test_constant_features_are_never_chosen_and_carry_no_weight():
    features = X.clone()
    features[:, 4], features[:, 8] = 0.0, 3.25
    path = elastic_net_path(features, Y, n_lambdas=20)
    assert torch.isfinite(path[-1].weight).all()
    assert not path[-1].weight[:, [4, 8]].any()
    for method in ("greedy", "saga"):
        assert not {4, 8} & set(select_features(features, Y, 8, method=method).features)
    with pytest.raises(UserError, match="9 wanted, but 8 of 10 features have variance"):
        select_features(features, Y, 9)


def test_a_duplicate_is_not_chosen_twice_and_running_out_is_reported():
    features = torch.cat([X[:, :5], X[:, :5] * 2 + 1, -X[:, :5], torch.full_like(X[:, :1], 0.1)], 1)
    chosen = select_features(features, Y, 5).features
    assert sorted(c % 5 for c in chosen) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="6 wanted, but only 5 distinct"):
        select_features(features, Y, 6)


def test_linear_combinations_above_the_rank_may_be_chosen():
    g = torch.Generator().manual_seed(0)
    base = X[:, :4]
    features = torch.cat([base, base @ torch.randn(4, 3, generator=g)], 1)
    assert len(set(select_features(features, Y, 6).features)) == 6


def test_fewer_rows_than_classes_allow_still_solves():
    """N barely above C: every class has one sample, all separable."""
    g = torch.Generator().manual_seed(0)
    features, labels = torch.randn(8, 20, generator=g), torch.arange(8)
    head, _ = fit_sparse_layer(features, labels, 6, 3)
    assert torch.isfinite(head.weight).all()
    assert 0 < (head.weight != 0).sum() <= 24


def test_all_features_constant_is_reported():
    with pytest.raises(UserError, match="0 of 3 features have variance"):
        select_features(torch.ones(20, 3), torch.arange(20) % 2, 1)


def test_features_that_say_nothing_end_in_finite_weights():
    g = torch.Generator().manual_seed(1)
    features, labels = torch.randn(300, 12, generator=g), torch.arange(300) % 3
    head, _ = fit_sparse_layer(features, labels, 6, 2)
    assert torch.isfinite(head.weight).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"features_per_class": 0}, "features_per_class"),
        ({"features_per_class": 7}, "features_per_class"),
        ({"cut": "scissors"}, "cut"),
        ({"choose": "dice"}, "choose"),
        ({"choose": "validation", "val_fraction": 0.0}, "held-out"),
        ({"choose": "validation", "search": "bisect"}, "search path"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"selection": "horoscope"}, "selection"),
    ],
)
def test_layer_options_are_checked(options, says):
    with pytest.raises(UserError, match=says):
        fit_sparse_layer(X, Y, 6, **{"features_per_class": 2, **options})


def test_a_path_needs_a_feature():
    for features, columns in ((X[:, :0], None), (X, torch.empty(0, dtype=torch.long))):
        with pytest.raises(UserError, match="no column"):
            elastic_net_path(features, Y, columns=columns)


def test_estimator_says_what_is_wrong():
    model = ElasticNetClassifier(n_lambdas=4)
    with pytest.raises(UserError, match="call fit first"):
        model.predict(X)
    with pytest.raises(UserError, match="Invalid parameter 'depth'"):
        model.set_params(depth=3)
    model.fit(X, Y)
    with pytest.raises(UserError, match="3 features, but ElasticNetClassifier is expecting 10"):
        model.predict(X[:, :3])


def test_planted_helper_is_what_it_says():
    features, labels, places = planted()
    means = torch.stack([features[labels == c].mean(0) for c in range(10)])
    assert set(means.std(0).topk(8).indices.tolist()) == set(places)
