"""How hard the toy birds are: how few parts tell the classes apart, and how much everything else varies."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difficulty:
    """What varies in the pictures, and how far.

    Attributes:
        min_distance: two classes differ in at least so many parts.
        scale: range of the bird's size, as the share of the picture's side that its body (one unit) takes.
        angle: the bird leans by at most so many degrees to either side.
        light: brightness and the balance of the colours vary by at most this share.
        distractors: range of the number of coloured things around the bird.
        occluders: range of the number of leaves and twigs in front of the bird; they hide no part entirely.
        grain: standard deviation of the pixel noise, in steps of 1/255.

    Example:
        >>> DIFFICULTIES["hard"].min_distance
        1
    """

    min_distance: int
    scale: tuple[float, float]
    angle: float
    light: float
    distractors: tuple[int, int]
    occluders: tuple[int, int]
    grain: float


DIFFICULTIES: dict[str, Difficulty] = {
    "easy": Difficulty(3, (0.44, 0.50), 6.0, 0.06, (0, 2), (0, 1), 2.0),
    "medium": Difficulty(2, (0.38, 0.50), 12.0, 0.12, (1, 4), (0, 2), 4.0),
    "hard": Difficulty(1, (0.30, 0.50), 22.0, 0.20, (2, 6), (1, 3), 6.0),
}
