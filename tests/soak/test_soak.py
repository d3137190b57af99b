"""A part of `make soak`: damaged input ends in a result or in one sentence, and harms nothing."""

import pytest

from tests.soak.cases import chosen_cases, run_case

pytestmark = pytest.mark.filterwarnings("ignore")  # damaged input is warned of, as it should be

CASES = chosen_cases(300, seed=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damaged_input(case, world, tmp_path):
    result = run_case(case, world, tmp_path / "case")
    assert not result.outcome.faults, result.describe()
