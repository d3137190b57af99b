"""Pixel flipping, sensitivity-n and ROAD give Quantus's values where the definitions agree."""

import numpy
import pytest

pytest.importorskip("quantus", reason="quantus is not installed")

from benchmarks.faithfulness import case, one_convolution, own_values, quantus_values


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["pixel flipping", "sensitivity-n", "ROAD"])
def test_the_values_of_quantus(name):
    given = case(one_convolution, 24, 5)
    own, theirs = (values(*given, step=8)[name]() for values in (own_values, quantus_values))
    numpy.testing.assert_allclose(numpy.asarray(own), numpy.asarray(theirs), rtol=2e-5, atol=2e-6)
