"""Threads: as many as cores may be used, one for small products."""

import pytest
import torch

from handful import threads
from handful.sparse import elastic_net_path, fit_path
from handful.threads import threads_for, use_the_cores


@pytest.fixture
def four(monkeypatch):
    """Four threads, and as many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four")
def test_small_products_get_one_thread_and_large_ones_all():
    with threads_for(10):
        assert torch.get_num_threads() == 1
        with threads_for(1e12):
            assert torch.get_num_threads() == 1  # what is around it has been decided
    assert torch.get_num_threads() == 4
    with threads_for(1e12):
        assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four")
def test_they_come_back_after_an_error():
    with pytest.raises(KeyError), threads_for(10):
        raise KeyError
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four")
def test_a_small_path_is_solved_with_one_thread(monkeypatch):
    seen = []
    real = fit_path.ExactPath
    monkeypatch.setattr(fit_path, "ExactPath", lambda *a, **k: seen.append(torch.get_num_threads()) or real(*a, **k))
    labels = torch.arange(60) % 3
    elastic_net_path(torch.rand(60, 5) + torch.eye(5)[labels], labels, n_lambdas=5)
    assert seen == [1]
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(("processes", "expected"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_processes_share_the_cores(processes, expected):
    assert use_the_cores(processes, {}) == expected


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_environment_goes_first(name):
    torch.set_num_threads(3)
    assert use_the_cores(1, {name: "3"}) == 3
    assert use_the_cores(1, {name: " "}) == 4
