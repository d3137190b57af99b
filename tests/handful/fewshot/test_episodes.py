import pytest
import torch

from handful.errors import UserError
from handful.fewshot.episodes import EpisodeSampler, split_classes
from handful.metrics.episodes import EpisodeAccuracy

LABELS = torch.arange(9).repeat_interleave(12)[torch.randperm(108, generator=torch.Generator().manual_seed(0))]


def sampler(**options) -> EpisodeSampler:
    return EpisodeSampler(LABELS, **{"way": 4, "shot": 2, "query": 3, "episodes": 11, "seed": 5} | options)


def test_an_episode_is_class_by_class_without_repeats() -> None:
    for episode in sampler():
        labels = LABELS[episode].view(4, 5)
        assert (labels == labels[:, :1]).all()
        assert len(labels[:, 0].unique()) == 4
        assert len(set(episode)) == 20


def test_the_episodes_are_the_same_for_any_number_of_processes() -> None:
    alone = list(sampler(episodes=12))
    for world in (2, 3, 4):
        shares = [list(sampler(episodes=12, rank=rank, world_size=world)) for rank in range(world)]
        assert [shares[e % world][e // world] for e in range(12)] == alone


def test_every_process_gets_equally_many_episodes_in_training() -> None:
    shares = [list(sampler(rank=rank, world_size=3)) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    one = sampler()
    first = list(one)
    one.set_epoch(1)
    assert list(one) != first
    one.set_epoch(0)
    assert list(one) == first
    assert list(sampler(seed=6)) != first
    assert len({tuple(episode) for episode in first}) == len(first)


def test_global_randomness_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(sampler())
    assert torch.equal(before, torch.get_rng_state())


def test_small_classes_are_left_out_and_too_few_classes_refused() -> None:
    labels = [0] * 6 + [1] * 3 + [2] * 6
    only = EpisodeSampler(labels, way=2, shot=1, query=4, episodes=20)
    assert all(labels[i] != 1 for episode in only for i in episode)
    with pytest.raises(UserError, match="3 classes"):
        EpisodeSampler(labels, way=3, shot=1, query=4)


def test_cubs_rule() -> None:
    names = [f"{number:03d}.Bird_{number}" for number in range(1, 201)]
    split = split_classes(names, seed=3)
    assert [len(split[name]) for name in ("base", "val", "novel")] == [100, 50, 50]
    assert split["base"][:3] == [0, 2, 4]
    assert split["val"][:3] == [1, 5, 9]
    assert split["novel"][:3] == [3, 7, 11]


@pytest.mark.parametrize("count", [3, 4, 10, 100, 200])
def test_other_data_is_split_by_the_seed(count: int) -> None:
    names = [f"class {i}" for i in range(count)]
    split = split_classes(names, seed=1)
    together = sorted(split["base"] + split["val"] + split["novel"])
    assert together == list(range(count))
    assert all(split.values())
    assert split == split_classes(names, seed=1)
    if count == 100:
        assert [len(split[name]) for name in ("base", "val", "novel")] == [64, 16, 20]
        assert split != split_classes(names, seed=2)


def test_too_few_classes() -> None:
    with pytest.raises(UserError, match="at least three classes"):
        split_classes(["a", "b"])


def test_accuracy_and_interval_against_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    whole, parts = EpisodeAccuracy(), [EpisodeAccuracy(), EpisodeAccuracy()]
    values = []
    for episode in range(50):
        scores, labels = torch.rand(15, 5, generator=generator), torch.randint(0, 5, (15,), generator=generator)
        values.append(float((scores.argmax(1) == labels).double().mean()))
        whole.update(scores, labels)
        parts[episode % 2].update(scores, labels)
    accuracies = torch.tensor(values, dtype=torch.float64)
    found = whole.compute()
    assert float(found["accuracy"]) == pytest.approx(100 * float(accuracies.mean()))
    assert float(found["interval"]) == pytest.approx(196 * float(accuracies.std(correction=0)) / 50**0.5)
    for name in ("episodes", "total", "squares"):
        setattr(parts[0], name, getattr(parts[0], name) + getattr(parts[1], name))
    merged = parts[0].compute()
    for name in found:
        assert float(merged[name]) == pytest.approx(float(found[name]), rel=1e-12)
