"""One conversion at every door: the same labels and masks in other clothes give the same result, or one sentence."""

import numpy
import pytest
import torch
from torch.nn import functional

from handful.assignment import AssignmentProblem
from handful.attribution import attribute
from handful.conversions import as_classes, as_float, as_labels, as_maps, as_mask, as_tensor
from handful.errors import UserError
from handful.fewshot.episodes import EpisodeSampler
from handful.filters import AccuracyGrid, EssentialityTest, StatisticsCollector, StrongestImages
from handful.losses import MutualChannelLoss, feature_diversity_loss
from handful.losses.class_weights import loss_weights
from handful.metrics import BalancedAccuracy, Dependence, DiversityAtK, Mean
from handful.metrics.episodes import EpisodeAccuracy
from handful.metrics.localisation import AreaAboveHalf, EnergyInMask, PointingGame, energy_in_mask, pointing_hits
from handful.sparse import elastic_net_path, fit_sparse_layer, select_features

CLASSES, FEATURES, N = 3, 6, 24
QUICK = {"n_lambdas": 3, "epsilon": 0.1}
_GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(N) % CLASSES
X = torch.randn(N, FEATURES, generator=_GENERATOR) + functional.one_hot(LABELS, FEATURES)
LOGITS = X[:, :CLASSES].clone()
WEIGHT = torch.randn(CLASSES, FEATURES, generator=_GENERATOR)
MAPS = torch.rand(N, FEATURES, 4, 4, generator=_GENERATOR)


def updated(metric, *args):
    metric.update(*args)
    return metric.compute()


def mutual_channel(labels):
    torch.manual_seed(0)
    return MutualChannelLoss(CLASSES, 2)(MAPS, labels)


def grid(labels):
    statistics = updated(StatisticsCollector(CLASSES, FEATURES, (2,)), X, LABELS)
    return updated(AccuracyGrid(WEIGHT, torch.zeros(CLASSES), statistics, [1, 3]), X, labels)


def essentiality(labels):
    test = EssentialityTest(torch.nn.Linear(FEATURES, CLASSES), torch.zeros(CLASSES, 1, dtype=torch.int64), FEATURES)
    with torch.no_grad():
        test._head[0].weight.copy_(WEIGHT)
        test._head[0].bias.zero_()
    return list(updated(test, X, labels, torch.arange(N)).values())


def statistics(labels):
    found = updated(StatisticsCollector(CLASSES, FEATURES, (2, 0.5)), X, labels)
    return [found.counts, found.sums, found.images]


def layer(labels):
    return fit_sparse_layer(X, labels, 3, 2, **QUICK)[0].weight


def attributed(labels):
    images = torch.randn(N, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, CLASSES))
    found = attribute(model, images, "label", method="gradient", labels=labels)
    return [found.targets, found.raw]


#: Every function and method of the library that takes one class number per row.
LABEL_DOORS = {
    "as_labels": lambda labels: as_labels(labels, N, CLASSES),
    "mutual channel": mutual_channel,
    "class weights": lambda labels: loss_weights("balanced", labels, CLASSES),
    "balanced accuracy": lambda labels: updated(BalancedAccuracy(CLASSES), LOGITS.argmax(1), labels),
    "balanced accuracy, predicted": lambda labels: updated(BalancedAccuracy(CLASSES), labels, LABELS),
    "episode accuracy": lambda labels: list(updated(EpisodeAccuracy(), LOGITS, labels).values()),
    "filter statistics": statistics,
    "filter grid": grid,
    "essentiality": essentiality,
    "select greedy": lambda labels: select_features(X, labels, 3).features,
    "select saga": lambda labels: select_features(X, labels, 3, method="saga").features,
    "path": lambda labels: elastic_net_path(X, labels, **QUICK)[-1].weight,
    "path, validation": lambda labels: elastic_net_path(X, LABELS, **QUICK, val=(X, labels))[-1].val_accuracy,
    "layer": layer,
    "layer, validation": lambda labels: (
        fit_sparse_layer(X, LABELS, 3, 2, **QUICK, val=(X, labels), choose="validation")[0].weight
    ),
    "attribution": attributed,
    "episodes": lambda labels: list(EpisodeSampler(labels, way=2, shot=1, query=1, episodes=3)),
}
ANY_RANGE = {"episodes"}  # the sampler takes whatever numbers the classes have
ANY_COUNT = {"episodes", "class weights"}

FORMS = {
    "int8": LABELS.to(torch.int8),
    "int16": LABELS.to(torch.int16),
    "int32": LABELS.to(torch.int32),
    "uint8": LABELS.to(torch.uint8),
    "uint16": LABELS.to(torch.uint16),
    "uint64": LABELS.to(torch.uint64),
    "column": LABELS[:, None],
    "float": LABELS.float(),
    "strided": LABELS.repeat_interleave(2)[::2],
    "list": LABELS.tolist(),
    "tuple": tuple(LABELS.tolist()),
    "list of tensors": list(LABELS),
    "list of numpy integers": list(LABELS.numpy().astype(numpy.int16)),
    "nested list": LABELS[:, None].tolist(),
    "sparse": LABELS.to_sparse(),
    "8-bit floats": LABELS.float().to(torch.float8_e4m3fn),
    "a masked array without a mask": numpy.ma.array(LABELS.numpy()),
    "numpy": LABELS.numpy(),
    "numpy uint8": LABELS.numpy().astype(numpy.uint8),
    "numpy uint16": LABELS.numpy().astype(numpy.uint16),
    "numpy column": LABELS.numpy()[:, None],
    "numpy float": LABELS.numpy().astype(numpy.float64),
    "numpy big endian": LABELS.numpy().astype(">i4"),
    "numpy reversed": LABELS.numpy()[::-1].copy()[::-1],
    "numpy read-only": numpy.frombuffer(LABELS.numpy().tobytes(), dtype=numpy.int64),
    "with a gradient": LABELS.float().requires_grad_(),
}
BAD = {
    "fractions": LABELS + 0.5,
    "NaN": LABELS * float("nan"),
    "bool": LABELS.bool(),
    "numpy bool": LABELS.numpy().astype(bool),
    "complex": LABELS.to(torch.complex64),
    "text": [f"class {label}" for label in LABELS.tolist()],
    "numpy text": numpy.array([str(label) for label in LABELS.tolist()]),
    "none": None,
    "objects": [object()] * N,
    "one-hot": functional.one_hot(LABELS, CLASSES),
    "row": LABELS[None],
    "one number": torch.tensor(1),
    "ragged": [[0, 1], [2]],
    "ragged tensors": [torch.tensor([0, 1]), torch.tensor([2])],
    "a dictionary": {0: 1},
}


def same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("door", LABEL_DOORS)
def test_labels_in_every_form_give_the_same_at_every_door(door):
    expected = LABEL_DOORS[door](LABELS.clone())
    for name, form in FORMS.items():
        found = LABEL_DOORS[door](form)
        try:
            same(found, expected)
        except AssertionError as error:
            raise AssertionError(f"{door}: {name}") from error


@pytest.mark.parametrize("door", LABEL_DOORS)
def test_what_is_no_label_ends_in_one_sentence_at_every_door(door):
    cases = dict(BAD)
    if door not in ANY_RANGE:
        cases |= {"negative": LABELS - 1, "too large": LABELS + 1}
    if door not in ANY_COUNT:
        cases |= {"too few": LABELS[:-1], "none at all": LABELS[:0], "too many": LABELS.repeat(2)}
    for name, case in cases.items():
        with pytest.raises(UserError, match=r"\A[^\n]+\Z"):  # one sentence on one line
            print(name, LABEL_DOORS[door](case))


def test_a_column_does_not_broadcast():
    """(N, 1) against (N,) compares all with all: the score was that of chance."""
    metric = EpisodeAccuracy()
    metric.update(functional.one_hot(LABELS, CLASSES).float(), LABELS[:, None])
    assert metric.compute()["accuracy"] == 100


# Masks and maps

MASK = torch.zeros(4, 6, 6, dtype=torch.bool)
MASK[0, :3], MASK[1, :, 2:], MASK[2] = True, True, True  # the last one is empty
ATTRIBUTION = torch.rand(4, 6, 6, generator=_GENERATOR) - 0.2
MASK_FORMS = {
    "uint8 0 and 1": MASK.to(torch.uint8),
    "uint8 0 and 255": 255 * MASK.to(torch.uint8),
    "int64 0 and 255": 255 * MASK.long(),
    "uint16 0 and 255": (255 * MASK.long()).to(torch.uint16),
    "float": MASK.float(),
    "half 0 and 255": 255 * MASK.half(),
    "double 0 and 255": 255.0 * MASK.double(),
    "numpy": MASK.numpy(),
    "numpy uint8 255": 255 * MASK.numpy().astype(numpy.uint8),
    "with a channel": MASK[:, None],
    "nested list": MASK.tolist(),
}
MASK_DOORS = {
    "as_mask": as_mask,
    "energy": lambda masks: energy_in_mask(ATTRIBUTION, masks),
    "pointing": lambda masks: pointing_hits(ATTRIBUTION, masks),
    "pointing near": lambda masks: pointing_hits(ATTRIBUTION, masks, 2),
    "mean energy": lambda masks: updated(EnergyInMask(), ATTRIBUTION, masks),
    "pointing game": lambda masks: updated(PointingGame(1), ATTRIBUTION, masks),
}


@pytest.mark.parametrize("door", MASK_DOORS)
def test_masks_in_every_form_give_the_same_at_every_door(door):
    expected = MASK_DOORS[door](MASK)
    for name, form in MASK_FORMS.items():
        try:
            same(MASK_DOORS[door](form), expected)
        except AssertionError as error:
            raise AssertionError(f"{door}: {name}") from error


@pytest.mark.parametrize("door", MASK_DOORS)
@pytest.mark.parametrize(
    "mask",
    [
        MASK.float() * 0.5,
        MASK * torch.randint(1, 255, MASK.shape),
        MASK.long() * 255 + 1,
        -MASK.float(),
        MASK.float() * float("nan"),
        MASK[0],
        MASK[:, None].expand(-1, 3, -1, -1),
        MASK.to(torch.complex64),
        [["a"]],
        None,
    ],
)
def test_what_is_no_mask_ends_in_one_sentence(door, mask):
    with pytest.raises(UserError):
        MASK_DOORS[door](mask)


def test_masks_of_another_size_or_number_are_refused():
    for masks in (MASK[:, :5], MASK[:3], MASK[:, :, :, None].expand(-1, -1, -1, 2)):
        with pytest.raises(UserError):
            energy_in_mask(ATTRIBUTION, masks)


def test_shares_are_shares_and_empty_masks_are_left_out():
    assert energy_in_mask(ATTRIBUTION, 255 * MASK.to(torch.uint8))[:3].le(1).all()
    shares = energy_in_mask(ATTRIBUTION, MASK)
    assert shares.isnan().tolist() == [False, False, False, True]
    same(updated(EnergyInMask(), ATTRIBUTION, MASK), shares[:3].mean())
    same(updated(PointingGame(), ATTRIBUTION, MASK), pointing_hits(ATTRIBUTION, MASK)[:3].double().mean())
    assert updated(EnergyInMask(), ATTRIBUTION[3:], MASK[3:]).isnan()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_maps_that_are_no_numbers_are_refused(value):
    broken = ATTRIBUTION.clone()
    broken[2, 1, 1] = value
    for door in (
        lambda: energy_in_mask(broken, MASK),
        lambda: pointing_hits(broken, MASK),
        lambda: updated(AreaAboveHalf(), broken),
        lambda: as_maps(broken.numpy()),
    ):
        with pytest.raises(UserError, match="map 2 holds values that are not finite"):
            door()


def test_maps_with_a_channel_and_arrays():
    for form in (ATTRIBUTION[:, None], ATTRIBUTION.numpy(), ATTRIBUTION.tolist()):
        same(as_maps(form).to(torch.float32), ATTRIBUTION)
    for form in (ATTRIBUTION[0], ATTRIBUTION.long(), torch.zeros(3, 0, 4)):
        with pytest.raises(UserError, match="floating point"):
            as_maps(form)


# Features, maps, logits and weights of a head

WEIGHTED_DOORS = {
    "diversity loss": lambda maps, logits, weight: feature_diversity_loss(maps, logits, weight),
    "diversity@k": lambda *args: updated(DiversityAtK(2), *args)["diversity@2"],
    "dependence": lambda maps, logits, weight: updated(Dependence(), maps.mean((2, 3)), logits, weight),
}


@pytest.mark.parametrize("door", WEIGHTED_DOORS)
def test_weights_of_another_head_are_refused(door):
    call = WEIGHTED_DOORS[door]
    assert torch.isfinite(call(MAPS, LOGITS, WEIGHT))
    for args in (
        (MAPS, LOGITS, WEIGHT.T),
        (MAPS, LOGITS, WEIGHT[:, :-1]),
        (MAPS, LOGITS, torch.cat([WEIGHT, WEIGHT])),
        (MAPS, LOGITS[:-1], WEIGHT),
        (MAPS, LOGITS.argmax(1), WEIGHT),
    ):
        with pytest.raises(UserError):
            call(*args)


def test_features_of_another_width_are_refused():
    for metric, args in (
        (StatisticsCollector(CLASSES, FEATURES + 1, (2,)), (X, LABELS)),
        (StrongestImages(FEATURES + 1), (X, torch.arange(N))),
        (StrongestImages(FEATURES), (X, torch.arange(N - 1))),
    ):
        with pytest.raises(UserError):
            metric.update(*args)


def test_floats():
    assert as_float([[1.5]], (None, 1), "x").tolist() == [[1.5]]
    with pytest.raises(UserError, match=r"x: expected shape \(any, 2\), got \(1, 1\)"):
        as_float([[1.5]], (None, 2), "x")
    with pytest.raises(UserError, match="x: expected floating point numbers, got int64"):
        as_float([[1]], (None, 1), "x")


@pytest.mark.parametrize("form", ["a", None, {0: 1}, [[1], [2, 3]], object()])
@pytest.mark.parametrize(
    "door",
    [lambda x: as_float(x, (None, None), "x"), lambda x: as_maps(x, "x"), lambda x: as_classes(x, "x"),
     lambda x: as_tensor(x, "x"), as_mask, as_labels, lambda x: Mean().update(x),
     lambda x: AssignmentProblem(x, torch.zeros(2, 2), torch.zeros(2), 1, 1),
     lambda x: attribute(torch.nn.Flatten(), x, 0, method="gradient")],
)  # fmt: skip
def test_what_is_no_number_is_one_sentence_with_its_name(door, form):
    with pytest.raises(UserError, match=r"\A\w+: expected numbers[^\n]*\Z"):
        door(form)


def test_a_mean_takes_numbers_lists_and_arrays():
    metric = Mean()
    for values in (1.0, [2.0, 3.0], numpy.array([4.0]), torch.tensor([5])):
        metric.update(values)
    assert float(metric.compute()) == 3


@pytest.mark.parametrize(("labels", "sentence"), [
    (numpy.ma.array([1, 2, 0], mask=[False, True, False]), "labels: a masked array with 1 masked values"),
    (torch.nested.nested_tensor([torch.tensor([1.0])], layout=torch.jagged), "labels: .* got a nested tensor"),
    (torch.zeros(3, device="meta"), "^labels: a tensor on the meta device has a shape and no numbers$"),
    ([torch.zeros(1, device="meta")] * 3, "^labels: a tensor on the meta device has a shape and no numbers$"),
    (numpy.array([0, 2**63 + 5], dtype=numpy.uint64), r"labels: expected integers below 2\^63"),
    ([1e300, 0.0], r"labels: expected integers below 2\^63, got 1e\+300"),
])  # fmt: skip
def test_labels_that_would_become_others_in_silence(labels, sentence):
    with pytest.raises(UserError, match=sentence):
        as_labels(labels)


def test_masks_and_maps_of_unusual_storage():
    masks, maps = torch.eye(4)[None], torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    quantised = torch.quantize_per_tensor(masks, 1.0, 0, torch.quint8)
    for stored in (masks.to_sparse(), masks.to(torch.float8_e4m3fn), quantised):
        assert torch.equal(as_mask(stored), masks.bool())
    assert torch.equal(as_maps(maps.to_sparse()), maps)
    with pytest.raises(UserError, match="1 masked values"):
        as_mask(numpy.ma.array([[[1, 0]]], mask=[[[True, False]]]))
