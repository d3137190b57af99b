"""Two of the kills of `python -m tests.soak.kills`, in one pipeline."""

from tests.soak.kills import run_points


def test_two_points_of_the_class_filters(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run_points(2, 3, tmp_path, ["filters"]) == []
