"""What a classifier predicts for images, as the rows of a table."""

from collections.abc import Iterator, Sequence

from torch import Tensor

#: Columns before those of the classes.
COLUMNS = ("image", "predicted", "probability")

#: Columns that are there where the true class of an image is known.
TRUTH = ("true", "correct")


def prediction_columns(class_names: Sequence[str], truth: bool) -> list[str]:
    """Return the names of the columns; a class called like one of the first columns is written `class NAME`.

    Args:
        class_names: by label.
        truth: whether the table holds true classes.
    """
    first = [*COLUMNS, *(TRUTH if truth else ())]
    return [*first, *(f"class {name}" if name in (*COLUMNS, *TRUTH) else name for name in class_names)]


def prediction_rows(
    images: Sequence[str],
    class_names: Sequence[str],
    probabilities: Tensor,
    labels: Sequence[int | None] | None = None,
) -> Iterator[list[str]]:
    """Yield a row per image: its name, the predicted class and its probability, the true class, all probabilities.

    Args:
        images: N names.
        class_names: C names.
        probabilities: `(N, C)`.
        labels: of the images; None where a class is not known, no column where nothing is.

    Example:
        >>> import torch
        >>> list(prediction_rows(["a.png"], ["owl", "wren"], torch.tensor([[0.25, 0.75]]), [1]))
        [['a.png', 'wren', '0.750000', 'wren', 'yes', '0.250000', '0.750000']]
    """
    for number, (image, row) in enumerate(zip(images, probabilities, strict=True)):
        best = int(row.argmax())
        shares = [f"{value:.6f}" for value in row.tolist()]
        truth: list[str] = []
        if labels is not None:
            label = labels[number]
            truth = ["", ""] if label is None else [class_names[label], "yes" if label == best else "no"]
        yield [image, class_names[best], shares[best], *truth, *shares]


def said_accuracy(true: Sequence[str | None], predicted: Sequence[str]) -> list[str]:
    """Accuracy and balanced accuracy of the pictures whose class is known, as one sentence; none where none is.

    Args:
        true: class of each picture; None where it is not known.
        predicted: class of each.

    Example:
        >>> said_accuracy(["owl", "owl", "wren", None], ["owl", "owl", "owl", "owl"])
        ['accuracy 66.67 %, balanced 50.00 %, on the 3 pictures whose folder names their class']
    """
    by_class: dict[str, list[bool]] = {}
    for label, found in zip(true, predicted, strict=True):
        if label is not None:
            by_class.setdefault(label, []).append(label == found)
    if not by_class:
        return []
    right = [one for found in by_class.values() for one in found]
    balanced = sum(sum(found) / len(found) for found in by_class.values()) / len(by_class)
    return [
        f"accuracy {100 * sum(right) / len(right):.2f} %, balanced {100 * balanced:.2f} %, "
        f"on the {len(right)} pictures whose folder names their class"
    ]
