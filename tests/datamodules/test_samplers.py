import pytest
import torch

from datamodules.samplers import EvaluationSampler, TrainingSampler, mixed


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 7, 24, 41])
def test_evaluation_gives_every_sample_once_over_all_ranks(size, world_size):
    ranks = [list(EvaluationSampler(range(size), rank, world_size)) for rank in range(world_size)]
    assert sorted(index for rank in ranks for index in rank) == list(range(size))
    for rank, indices in enumerate(ranks):
        assert indices == list(range(rank, size, world_size))
        assert len(EvaluationSampler(range(size), rank, world_size)) == len(indices)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [2, 7, 24, 41])
def test_training_gives_ranks_equally_many_and_repeats_no_more_than_it_must(size, world_size):
    samplers = [TrainingSampler(range(size), lambda: 5, 3, rank, world_size) for rank in range(world_size)]
    ranks = [list(sampler) for sampler in samplers]
    each = -(-size // world_size)
    assert [len(rank) for rank in ranks] == [len(sampler) for sampler in samplers] == [each] * world_size
    together = [ranks[place % world_size][place // world_size] for place in range(each * world_size)]
    assert {epoch for epoch, _ in together} == {5}
    order = [index for _, index in together]
    assert sorted(order[:size]) == list(range(size))
    assert order[size:] == [order[i % size] for i in range(len(order) - size)]


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return list(TrainingSampler(range(50), lambda: epoch, seed))

    first = order(0, 0)
    torch.manual_seed(99)
    assert order(0, 0) == first
    shuffled = {tuple(index for _, index in order(seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(shuffled) == 25


def test_the_epoch_is_asked_for_when_the_iteration_begins():
    epoch = 0
    sampler = TrainingSampler(range(5), lambda: epoch)
    early = list(sampler)
    epoch = 1
    sampler.set_epoch(17)  # what Lightning calls; too late for loaders with workers
    assert [e for e, _ in sampler] == [1] * 5
    assert list(sampler) != early


def test_two_ranks_see_the_order_of_one():
    one = list(TrainingSampler(range(41), lambda: 2))
    two = [list(TrainingSampler(range(41), lambda: 2, rank=rank, world_size=2)) for rank in range(2)]
    assert [two[place % 2][place // 2] for place in range(41)] == one


def test_mixed_numbers_scatter():
    drawn = torch.tensor(
        [mixed(seed, epoch, index) % 10 for seed in range(4) for epoch in range(25) for index in range(100)]
    )
    counts = torch.bincount(drawn, minlength=10)
    chi_square = ((counts - 1000.0) ** 2 / 1000).sum()
    assert chi_square < 27.9  # 0.1 % of fair dice with ten sides are worse
    assert len({mixed(seed, epoch, index) for seed in range(9) for epoch in range(9) for index in range(9)}) == 729
    assert 0 <= mixed(0) < 2**63
