"""What a phase is: a recipe that reads earlier phases and leaves files and rows of results."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from handful.networks import Classifier
from lightning_modules import Input, TrainedModule

if TYPE_CHECKING:
    from pipelines.phases.context import Context


@dataclass(frozen=True)
class Produced:
    """What a phase has produced, beside the files it has written into its folder.

    Attributes:
        rows: for `results.json`: stage → measure → value.
        module: what `best.ckpt` holds, where the phase has written one; for the phase's config. On rank zero.
    """

    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    module: TrainedModule | None = None


class Phase(ABC):
    """One step of a pipeline. The runner decides when and in which folder; the phase knows no other.

    A subclass is registered by its name, under which a config finds it.
    """

    #: What the phase leaves for later ones: "a classifier", "filters", …
    leaves: ClassVar[frozenset[str]] = frozenset()
    #: Whether the phase needs all images even where a trial run limits the number of batches.
    needs_all_images: ClassVar[bool] = False

    #: Where the weights come from that the phase starts from, if they are not an earlier phase's; `take` sets it.
    started_from: str = ""

    registered: ClassVar[dict[str, type["Phase"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the class by its name."""
        super().__init_subclass__(**kwargs)
        Phase.registered[cls.__name__] = cls

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The earlier phases that this one reads; checked before the first phase runs."""
        return ()

    def check(self, classifier: Classifier) -> None:  # noqa: B027  not every phase has something to refuse
        """Refuse a configuration that cannot work, before the first phase runs.

        Args:
            classifier: the pipeline's network with its dense head, without real weights.

        Raises:
            UserError: in one sentence, what does not fit.
        """

    def take(self, earlier: Mapping[str, Path]) -> None:  # noqa: B027  not every phase reads another
        """Read what earlier phases wrote; on every rank, before anything in the phase's folder is touched.

        Args:
            earlier: name of every finished earlier phase → its folder.

        Raises:
            UserError: a phase or file that is needed is missing, or holds something else.
        """

    @abstractmethod
    def run(self, context: "Context") -> Produced:
        """Run on every rank; rank zero writes files.

        Raises:
            UserError: on every rank, in one sentence.
        """
