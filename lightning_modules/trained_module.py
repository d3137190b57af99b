"""What is trained in a phase: where its weights come from, and how it is found again by its name."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lightning.pytorch as pl

from handful.errors import UserError, did_you_mean
from handful.networks import Classifier
from lightning_modules.published import share_weights


class Input(NamedTuple):
    """An earlier phase that is read.

    Attributes:
        phase: its name.
        kind: what it must leave: "a network", "a classifier", "filters", …
    """

    phase: str
    kind: str


class TrainedModule(pl.LightningModule):
    """A LightningModule that a phase trains.

    It is built from plain values and factories of optimizers, so that a checkpoint alone rebuilds it: the checkpoint
    holds the name under which the class is registered, and its arguments.
    """

    #: Arguments that a pipeline gives, beside those of the config.
    shared: ClassVar[frozenset[str]] = frozenset({"network", "num_classes"})
    #: What a phase leaves in its `best.ckpt` by training this.
    leaves: ClassVar[frozenset[str]] = frozenset()
    #: What depends on the number of epochs besides their number, for a sentence; empty where nothing does, so that a
    #: finished training can be continued for more epochs.
    depends_on_length: ClassVar[str] = ""
    #: Whether the best checkpoint is tested when the training has ended; `results` is then the phase's row.
    tested_after_training: ClassVar[bool] = False
    #: Where the weights that training starts from come from, with their digest; empty for fresh ones and those of
    #: earlier phases. `take` sets it.
    started_from: str = ""
    #: The checkpoint that training resumes from, whose weights take the place of those from elsewhere.
    resumed_from: Path | None = None
    #: Whether process 0 alone has the weights to start from, see `lightning_modules.published`.
    awaits_weights: bool = False
    #: Whether their last layer is wanted as well.
    awaits_head: bool = False
    #: Whether the backbone is trained; the features of one that is not are computed once and kept.
    train_backbone: bool = True
    #: Measures of the test loop that has just run, by name.
    results: dict[str, float]

    registered: ClassVar[dict[str, type["TrainedModule"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the class by its name."""
        super().__init_subclass__(**kwargs)
        TrainedModule.registered[cls.__name__] = cls

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The earlier phases that the module takes something from."""
        return ()

    @property
    def measures(self) -> Collection[str] | None:
        """The measures that training logs, any of which `monitor` may name; None where they are not known."""
        return None

    @property
    def starts_fresh(self) -> bool:
        """Whether the module has no weights but random ones before it is trained."""
        return False

    def check(self, classifier: Classifier) -> None:
        """Refuse a configuration that cannot work, before the first phase starts.

        Args:
            classifier: the pipeline's network with its dense head, without real weights.

        Raises:
            UserError: in one sentence, what does not fit.
        """

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take what earlier phases wrote; on every rank, before training starts or resumes.

        Args:
            earlier: name of every finished earlier phase → its folder with `best.ckpt`, `last.ckpt` and more.

        Raises:
            UserError: a phase or file that is needed is missing.
        """

    def setup(self, stage: str) -> None:
        """Get the weights to start from of process 0; the processes have been started by now."""
        share_weights(self, self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the name under which `load_module` finds the class."""
        checkpoint["handful_module"] = type(self).__name__


def folder_of(earlier: Mapping[str, Path], phase: str) -> Path:
    """The folder of an earlier phase.

    Raises:
        UserError: no finished earlier phase has that name.
    """
    if phase not in earlier:
        known = ", ".join(earlier) or "none"
        hint = did_you_mean(phase, earlier)
        raise UserError(f"a phase named {phase!r} is needed before this one; finished so far: {known}{hint}")
    return earlier[phase]
