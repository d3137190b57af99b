"""The FunnyBirds protocol: its parts by hand, an oracle's and a random explanation's scores, and drawn birds."""

import itertools

import pytest
import torch
from torch import nn

from handful.birds import PART_NAMES, ToyBirdsDataset, class_table
from handful.errors import UserError
from handful.metrics.funny_birds import WatchedBirds, funny_birds, watch_birds
from handful.metrics.knockouts import class_variants, contrasting_classes, knock_out, sufficient_sets
from handful.metrics.known_truth import Answers, Importances, KnownTruth, mass_on, protocol


def test_sufficient_sets_are_those_of_a_loop():
    variants = class_variants(class_table(10, 2, seed=3))
    for label, found in enumerate(sufficient_sets(variants)):
        enough = [
            set(parts)
            for size in range(7)
            for parts in itertools.combinations(range(6), size)
            if all(any(variants[label, p] != variants[c, p] for p in parts) for c in range(10) if c != label)
        ]
        smallest = [parts for parts in enough if not any(other < parts for other in enough)]
        assert sorted(sorted(row.nonzero()[:, 0].tolist()) for row in found) == sorted(map(sorted, smallest))


def test_contrasting_classes_share_disjoint_parts():
    variants = class_variants(class_table(12, 2, seed=1))
    pairs, shared = contrasting_classes(variants)
    assert bool((pairs >= 0).all(dim=1).any())
    for label, (one, other) in enumerate(pairs.tolist()):
        if one < 0:
            continue
        for place, c in enumerate((one, other)):
            assert torch.equal(shared[label, place], variants[label] == variants[c])
            assert bool(shared[label, place].any())
        assert not bool((shared[label, 0] & shared[label, 1]).any())
    alone = contrasting_classes(torch.tensor([[0, 0], [0, 1]]))
    assert alone[0].tolist() == [[-1, -1], [-1, -1]]


def test_what_is_drawn_away_is_away_and_nothing_else_changes():
    birds = ToyBirdsDataset("test", n_classes=4, images_per_class=1, size=32, difficulty="medium")
    drawn = knock_out(birds.scene(1), 32)
    whole = birds[1][0]
    assert torch.equal(drawn.parts[-1], whole)
    bit = PART_NAMES.index("wing")
    without = torch.from_numpy(birds.rendering(1, remove=["wing"]).image).permute(2, 0, 1)
    assert torch.equal(drawn.parts[2**6 - 1 - 2**bit], without)
    assert torch.equal(drawn.part_masks, torch.from_numpy(birds.masks(1)))
    assert len(drawn.things) > 0
    for image, mask in zip(drawn.things, drawn.thing_masks, strict=True):
        assert torch.equal((image != whole).any(0), mask)
        assert bool(mask.any())


# -- a model whose truth is known: the score of a class is the sum of weights of the parts it shares with the image --


def additive_birds(count=200, classes=10, seed=0, things=3):
    """Answers of a model that reads parts, and the true importance of each part and thing for each class."""
    generator = torch.Generator().manual_seed(seed)
    variants = class_variants(class_table(classes, 2, seed=seed))
    weights = 1 + torch.rand(count, 6, generator=generator).double()
    labels = torch.arange(count) % classes
    agrees = (variants[labels][:, None] == variants[None]).double()  # (N, C, P)
    parts = weights[:, None] * agrees
    there = torch.tensor([[bool(code >> p & 1) for p in range(6)] for code in range(64)]).double()
    logits = torch.einsum("kp,ncp->nkc", there, parts)
    logits[:, 0] = torch.eye(classes, dtype=torch.float64)[(labels + 1) % classes]  # a bird without parts is another
    answers = Answers(
        labels, logits, torch.ones(count, things, dtype=torch.bool), logits[:, -1:].expand(-1, things, -1).contiguous()
    )
    return answers, parts, variants


def scored(answers, importances, variants):
    metric = KnownTruth()
    half = len(answers.labels) // 2 + 1
    for rows in (slice(0, half), slice(half, None)):
        metric.update(
            Answers(answers.labels[rows], answers.logits[rows], answers.things[rows], answers.without_thing[rows]),
            Importances(importances.parts[rows], importances.things[rows], importances.total[rows]),
            sufficient_sets(variants), contrasting_classes(variants),
        )  # fmt: skip
    return {name: float(value) for name, value in metric.compute().items()}


def test_an_oracle_scores_one_in_everything():
    answers, parts, variants = additive_birds()
    classes = answers.explained(contrasting_classes(variants)[0])
    told = parts.gather(1, classes[:, :, None].expand(-1, -1, 6))
    found = scored(answers, Importances(told, torch.zeros(200, 4, 3), told.sum(2)), variants)
    threshold = found.pop("threshold")
    assert 0.01 <= threshold <= 0.5
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_a_random_explanation_scores_near_chance():
    answers, _, variants = additive_birds(2000)
    generator = torch.Generator().manual_seed(5)
    parts, things = torch.rand(2000, 4, 6, generator=generator), torch.rand(2000, 4, 3, generator=generator)
    found = scored(answers, Importances(parts, things, parts.sum(2) + things.sum(2)), variants)
    assert found["correctness"] == pytest.approx(0.5, abs=0.03)
    assert found["contrastivity"] == pytest.approx(0.5, abs=0.03)
    assert found["accuracy"] == 1
    assert found["completeness"] < 0.8


def test_an_explanation_of_nothing_and_of_everything():
    answers, _, variants = additive_birds(50)
    nothing = scored(answers, Importances(torch.zeros(50, 4, 6), torch.zeros(50, 4, 3), torch.zeros(50, 4)), variants)
    assert (nothing["controlled"], nothing["preservation"], nothing["deletion"]) == (0, 0, 0)
    assert (nothing["distractibility"], nothing["correctness"], nothing["contrastivity"]) == (1, 0.5, 0)
    every = torch.ones(50, 4, 6)
    all_of_it = scored(answers, Importances(every, torch.ones(50, 4, 3), torch.ones(50, 4)), variants)
    assert (all_of_it["controlled"], all_of_it["preservation"], all_of_it["deletion"]) == (1, 1, 1)
    assert all_of_it["distractibility"] == 0


# -- other planted truths: what decides is known, and so is the score of an exact explanation of it -----------------

#: Sums over parts that are there `(64, 6)` to the score of one's own class; of the others it is 0.5.
PLANTED = {
    "one part": lambda there: there[:, 2],
    "two parts jointly": lambda there: there[:, 2] * there[:, 4],
    "either of two parts": lambda there: torch.maximum(there[:, 2], there[:, 4]),
    "the background": lambda there: torch.ones(64, dtype=torch.float64),
    "the absence of a part": lambda there: 1 - there[:, 2],
    "nothing": lambda there: torch.zeros(64, dtype=torch.float64),
}


def planted(name, deciding, things=2):
    """Answers on 20 birds of 4 classes that differ in the deciding parts, falls without a part or thing, variants."""
    variants = class_variants(class_table(4, 2, deciding_parts=[PART_NAMES[part] for part in deciding]))
    there = torch.tensor([[bool(code >> p & 1) for p in range(6)] for code in range(64)]).double()
    labels = torch.arange(20) % 4
    own = PLANTED[name](there)
    logits = torch.full((20, 64, 4), 0.0 if name == "nothing" else 0.5, dtype=torch.float64)
    logits[torch.arange(20), :, labels] = own
    without = logits[:, -1:].expand(-1, things, -1).clone()
    if name == "the background":  # of which one thing decides
        without[torch.arange(20), 0, labels] = 0.0
    answers = Answers(labels, logits, torch.ones(20, things, dtype=torch.bool), without)
    falls = own[-1] - own[63 - 2 ** torch.arange(6)]
    return (
        answers,
        falls.expand(20, 4, 6),
        (own[-1] - without[torch.arange(20), :, labels])[:, None].expand(-1, 4, -1),
        variants,
    )


def said(name, deciding, kind):
    answers, parts, things, variants = planted(name, deciding)
    generator = torch.Generator().manual_seed(1)
    if kind == "exact":
        parts, things = parts.clamp(min=0), things.clamp(min=0)
    elif kind == "inverted":
        parts, things = parts.amax() - parts, things.amax() - things
    elif kind == "uniform":
        parts, things = torch.ones(20, 4, 6), torch.ones(20, 4, 2)
    else:
        parts, things = (torch.rand(*one.shape, generator=generator) for one in (parts, things))
    return scored(answers, Importances(parts, things, parts.sum(2) + things.sum(2)), variants)


@pytest.mark.parametrize(("name", "deciding"), [
    ("one part", [2]), ("two parts jointly", [2, 4]), ("two parts jointly", [2]), ("one part", [2, 4]),
])  # fmt: skip
def test_parts_that_decide_alone_or_jointly(name, deciding):
    found = {kind: said(name, deciding, kind) for kind in ("exact", "random", "uniform", "inverted")}
    exact, uniform, inverted = (found[kind] for kind in ("exact", "uniform", "inverted"))
    assert exact["accuracy"] == exact["background_independence"] == 1
    assert exact["preservation"] == exact["deletion"] == exact["distractibility"] == 1
    assert exact["correctness"] == pytest.approx(1)
    assert inverted["correctness"] == pytest.approx(0)
    assert inverted["deletion"] == inverted["preservation"] == 0
    assert (uniform["correctness"], uniform["distractibility"]) == (0.5, 0)
    if name == "two parts jointly" or deciding == [2]:
        assert exact["controlled"] == 1
    for score in ("completeness", "correctness"):
        assert exact[score] > found["random"][score] > inverted[score]


def test_a_part_that_another_can_stand_in_for_a_background_and_an_absence():
    either = said("either of two parts", [2, 4], "exact")  # no single part's fall says anything
    assert either["correctness"] != either["correctness"]  # NaN: not defined
    assert (either["deletion"], either["distractibility"]) == (0, 1)
    background = said("the background", [2, 4], "exact")
    assert (background["background_independence"], background["deletion"]) == (0.5, 0)
    assert background["distractibility"] == 1
    # all of it on the one thing of seven parts and things that do not matter
    assert said("the background", [2, 4], "inverted")["distractibility"] == pytest.approx(1 - 1 / 7)
    absent = said("the absence of a part", [2], "exact")  # seen parts cannot say it, and it is not recognised
    assert absent["accuracy"] == 0
    assert said("the absence of a part", [2], "inverted")["correctness"] == pytest.approx(0)


def test_a_model_that_always_says_the_same():
    """Nothing changes its score of 0: every thing is without effect, and no explanation is better than another."""
    for kind in ("exact", "uniform", "random"):
        found = said("nothing", [2, 4], kind)
        assert (found["background_independence"], found["deletion"]) == (1, 0)
        assert found["correctness"] != found["correctness"]  # NaN: not defined
        assert found["distractibility"] == 1  # at the threshold where nothing is important


def test_background_that_matters_and_images_without_any():
    answers, _, variants = additive_birds(10)
    answers.without_thing[:4, 0] -= 5  # the score falls without it
    answers.things[8:] = False
    answers.things[:, 2] = False
    importances = Importances(torch.zeros(10, 4, 6), torch.zeros(10, 4, 3), torch.ones(10, 4))
    found = protocol(
        answers, importances, sufficient_sets(variants), contrasting_classes(variants), torch.tensor([0.1])
    )
    assert int((~found.background.isnan()).sum()) == 16
    assert float(found.background.nansum()) == 12
    assert found.distractibility[8:].isnan().all()  # every part matters, and there is nothing else
    assert not found.distractibility[:8].isnan().any()


def test_mass_on_parts_grown_by_a_square():
    maps, masks = torch.arange(25.0).reshape(1, 1, 5, 5), torch.zeros(1, 2, 5, 5, dtype=torch.bool)
    masks[0, 0, 2, 2] = True
    assert mass_on(maps, masks, 1).tolist() == [[[12, 0]]]
    assert mass_on(maps, masks, 3).tolist() == [[[9 * 12, 0]]]


# -- drawn birds ------------------------------------------------------------------------------------------------------


class WingReader(nn.Module):
    """Counts the pixels that have the colours of each class's wing; what decides is known to the pixel."""

    def __init__(self, birds):
        super().__init__()
        drawn = [birds.rendering(i) for i in range(len(birds.classes))]
        wings = [one.image[one.coverage[PART_NAMES.index("wing")] == 1] for one in drawn]
        seen = [{tuple(pixel) for pixel in wing.tolist()} for wing in wings]
        colours = [list(own - set().union(*(o for o in seen if o is not own))) for own in seen]
        self.colours = [torch.tensor(c).reshape(-1, 3, 1, 1) for c in colours]

    def wing_pixels(self, images, classes):
        found = []
        for image, label in zip(images, classes.tolist(), strict=True):
            near = (image[None] - self.colours[label]).abs().amax(1) < 0.5
            found.append(near.any(0))
        return torch.stack(found).float()

    def forward(self, images):
        counts = [self.wing_pixels(images, torch.full((len(images),), c)).sum((1, 2)) for c in range(len(self.colours))]
        return torch.stack(counts, dim=1)


def test_a_model_that_reads_the_wing_and_a_map_of_what_it_reads():
    birds = ToyBirdsDataset("test", n_classes=3, images_per_class=1, size=32, deciding_parts=["wing"])
    model = WingReader(birds)
    watched = watch_birds(model, birds, prepare=lambda pixels: pixels.float())
    answers = watched.answers
    assert torch.equal(answers.whole.argmax(1), answers.labels)
    wing = PART_NAMES.index("wing")
    assert float(answers.logits[range(3), 2**6 - 1 - 2**wing, answers.labels].max()) < 0.1 * float(answers.whole.max())

    def true(of, images, classes):
        return torch.stack([of.wing_pixels(images, classes[:, g]) for g in range(4)], dim=1)

    found = funny_birds(model, watched, true, dilation=1)
    assert found["accuracy"] == found["controlled"] == found["preservation"] == found["distractibility"] == 1
    assert found["correctness"] > 0.7

    def elsewhere(of, images, classes):
        return 1 - true(of, images, classes)

    assert funny_birds(model, watched, elsewhere, dilation=1)["completeness"] < found["completeness"]


def test_birds_that_cannot_be_watched():
    birds = ToyBirdsDataset("test", n_classes=4, images_per_class=1, size=16)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 5))
    with pytest.raises(UserError, match="give prepare"):
        watch_birds(model, birds)
    with pytest.raises(UserError, match="5 classes, and the birds 4"):
        watch_birds(model, birds, [0], lambda pixels: pixels.float())
    with pytest.raises(UserError, match="no birds"):
        watch_birds(model, birds, [], lambda pixels: pixels.float())


@pytest.mark.parametrize(
    ("maps", "sentence"),
    [(torch.full((3, 4, 4, 4), torch.nan), "maps: row 0 holds"), (torch.rand(3, 2, 4, 4), "maps: expected")],
)
def test_maps_that_say_nothing_are_refused(maps, sentence):
    answers, _, variants = additive_birds(3)
    masks = torch.zeros(3, 6, 4, 4, dtype=torch.bool)
    watched = WatchedBirds(
        torch.zeros(3, 3, 4, 4), answers, masks, masks[:, :3], sufficient_sets(variants), contrasting_classes(variants)
    )
    with pytest.raises(UserError, match=sentence):
        watched.importances(maps)
