"""Tables in MATLAB's files, which hold numbers and text alone."""

import io
from typing import Any

import numpy as np

from handful.errors import UserError


def mat_fields(content: bytes, shown: str, title: str, *keys: str) -> dict[str, Any]:
    """Return values of a MATLAB file, each as an array of at least one dimension.

    Args:
        content: of the file.
        shown: its name, for the sentence.
        title: of the data set, for the sentence.
        keys: of the values.

    Raises:
        UserError: it cannot be read, or lacks a value.
    """
    from scipy.io import loadmat  # takes its time to import

    try:
        found = loadmat(io.BytesIO(content), squeeze_me=True)
    except Exception as error:  # scipy raises what it pleases on damaged files
        raise UserError(f"{shown} cannot be read as a MATLAB file: {error}.") from None
    lacking = [key for key in keys if key not in found]
    if lacking:
        raise UserError(f"{shown} has no {lacking[0]}: it is not the file of {title}.")
    return {key: np.atleast_1d(found[key]) for key in keys}
