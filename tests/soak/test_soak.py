"""A part of `make soak`: damaged input ends in a result or in one sentence, and harms nothing."""

import pytest

from tests.soak.cases import chosen_cases, run_case

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged input is warned of, as it should be

CASES = chosen_cases(300, seed=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damaged_input(case, world, tmp_path, monkeypatch):
    if case.number % 4 and case.kind in ("archive", "image", "config"):
        # a report takes half of the seconds of a pipeline: every fourth writes it here, and all in `make soak`
        monkeypatch.setattr("pipelines.commands.pipeline._write_report", lambda pipeline, folder: None)
    result = run_case(case, world, tmp_path / "case")
    assert not result.outcome.faults, result.describe()
