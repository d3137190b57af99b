import torch

from handful.bottleneck.statistics import PrincipalCode, RunningStatistics
from tests.helpers.two_processes import every_second, on_two_processes


def test_batches_of_any_size_give_the_moments_of_the_whole() -> None:
    data = torch.randn(37, 5, 4, 3) * 3 + 1e4  # a large mean: sums of squares in float32 would lose all digits
    statistics = RunningStatistics((5,))
    for batch in data.split([1, 20, 16]):
        statistics.update(batch)
    flat = data.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(statistics.mean, flat.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(statistics.std, flat.std(1, correction=0), rtol=1e-9, atol=0)
    assert statistics.lowest == data.min()
    assert statistics.count == 37 * 12


def test_statistics_per_neuron() -> None:
    data = torch.randn(11, 2, 3, 4)
    statistics = RunningStatistics((2, 3, 4))
    statistics.update(data)
    torch.testing.assert_close(statistics.mean, data.double().mean(0))
    normalised = statistics.normalise(data)
    torch.testing.assert_close(normalised.std(0, correction=0), torch.ones(2, 3, 4), rtol=1e-4, atol=0)
    torch.testing.assert_close(statistics.restore(normalised), data, rtol=1e-5, atol=1e-6)


def test_a_dead_channel_is_normalised_by_the_floor() -> None:
    statistics = RunningStatistics((2,), min_std=0.5)
    statistics.update(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    assert statistics.std.tolist() == [1.0, 0.5]
    assert statistics.normalise(torch.tensor([[2.0, 8.0]])).tolist() == [[0.0, 2.0]]


def test_components_are_standardised_and_ordered() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    code = PrincipalCode(6, components=4)
    for batch in data.split(130):
        code.update(batch)
    code.finish()
    values = code(data)
    torch.testing.assert_close(values.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.T @ values / 500, torch.eye(4), atol=1e-4, rtol=0)
    expected = torch.linalg.svdvals(data - data.mean(0))[:4] / 500**0.5
    torch.testing.assert_close(1 / code.basis.norm(dim=1).float(), expected, rtol=1e-4, atol=0)


def _of_rank(rank: int) -> list[dict[str, torch.Tensor]]:
    data = torch.randn(31, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    statistics, code = RunningStatistics((4,)), PrincipalCode(4, 3)
    statistics.update(data[every_second(rank)])
    code.update(data[every_second(rank)].mean((2, 3)))
    statistics.synchronise()
    code.finish()
    return [statistics.state_dict(), code.state_dict()]


def test_two_processes_hold_what_one_holds() -> None:
    data = torch.randn(31, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    statistics, code = RunningStatistics((4,)), PrincipalCode(4, 3)
    statistics.update(data)
    code.update(data.mean((2, 3)))
    code.finish()
    first, second = on_two_processes(_of_rank)
    for mine, one, other in zip((statistics, code), first, second, strict=True):
        for name, value in mine.state_dict().items():
            torch.testing.assert_close(one[name], value, rtol=1e-9, atol=1e-12)
            assert torch.equal(one[name], other[name])
