"""What a report shows of one feature and of one class."""

from dataclasses import dataclass, field

from PIL import Image

from handful.explain.meaning import Followed, LiesOn


@dataclass
class FeatureCard:
    """One feature that decides.

    Attributes:
        number: of the feature in the backbone.
        weights: class name → weight of the feature for the class.
        pictures: the images where it is largest, as they are and with the feature's map, and their class.
        follows: the attribute that it follows, where attributes are known.
        lies_on: the part that it lies on, where parts are known.
    """

    number: int
    weights: dict[str, float]
    pictures: list[tuple[Image.Image, Image.Image, str]] = field(default_factory=list)
    follows: Followed | None = None
    lies_on: LiesOn | None = None


@dataclass
class ClassRow:
    """One class.

    Attributes:
        name: of the class.
        images: how many test images it has.
        accuracy: share of them that are recognised, in per cent.
        features: feature number → weight, see `FeatureCard`.
        mistaken: the class that it is most often mistaken for, and the share of its images in per cent.
    """

    name: str
    images: int
    accuracy: float
    features: dict[int, float]
    mistaken: tuple[str, float] | None = None
