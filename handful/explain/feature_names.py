"""Names that a person gives to features: `names.csv`, columns `feature` and `name`."""

from collections.abc import Mapping
from pathlib import Path

from handful.errors import UserError
from handful.report.csv_file import read_csv

#: The file in the folder of a run.
NAMES_FILE = "names.csv"

#: A number with more digits is none of a feature.
_DIGITS = 9


def read_feature_names(folder: Path, num_features: int | None = None) -> dict[int, str]:
    r"""Feature → name, from `names.csv` in a folder; empty where there is none.

    Args:
        folder: that may hold the file.
        num_features: how many features there are, where that is known.

    Raises:
        UserError: the file is not a table of features and names, or names a feature that there is not.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "names.csv").write_text("feature,name\n23,red eye\n")
        >>> read_feature_names(folder)
        {23: 'red eye'}
    """
    path = folder / NAMES_FILE
    if not path.is_file():
        return {}
    try:
        rows = read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from None
    names: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        keys = {str(key).strip().lstrip("\ufeff").lower(): value for key, value in row.items()}
        if not {"feature", "name"} <= set(keys):
            raise UserError(f"{path}: expected the columns feature and name, not {', '.join(map(str, row))}")
        number, name = str(keys["feature"]).strip(), str(keys["name"]).strip()
        if not number.isdecimal() or len(number) > _DIGITS:
            raise UserError(f"{path}: line {line} has {number!r:.60}, which is not a number of a feature")
        if num_features is not None and int(number) >= num_features:
            raise UserError(f"{path}: line {line} names feature {number}; there are {num_features}, counted from 0")
        if int(number) in names:
            raise UserError(f"{path}: feature {number} is named twice, the second time in line {line}")
        if name:
            names[int(number)] = name
    return names


def feature_label(feature: int, names: Mapping[int, str]) -> str:
    """How a feature is called: its number, with the name where it has one.

    Example:
        >>> feature_label(23, {23: "red eye"}), feature_label(4, {})
        ('red eye (23)', 'feature 4')
    """
    return f"{names[feature]} ({feature})" if feature in names else f"feature {feature}"
