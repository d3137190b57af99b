"""Train a LightningModule."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

from handful.networks import Classifier
from handful.tensor_files import read_tensors
from lightning_modules import ClassifierModule, Input, TrainedModule, load_module
from lightning_modules.checkpoints import check_weights
from pipelines.exact_resume import restoring
from pipelines.phases.base import Phase, Produced
from pipelines.phases.context import Context


class Train(Phase):
    """Train a module; with no epochs, validate and store it as it is handed over.

    Args:
        module: what is trained.
    """

    def __init__(self, module: TrainedModule) -> None:
        self.module = module
        self.leaves = module.leaves  # type: ignore[misc]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Those of the module."""
        return self.module.inputs

    def check(self, classifier: Classifier) -> None:
        """Let the module refuse what cannot work."""
        self.module.check(classifier)

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Let the module take its weights."""
        self.module.take(earlier)
        if (checkpoint := self.module.resumed_from) is not None:
            check_weights(checkpoint, self.module)
            self.module.load_state_dict(read_tensors(checkpoint)["state_dict"])
        self.started_from = self.module.started_from

    def resume_from(self, checkpoint: Path, started_from: str) -> None:
        """Let `take` take the weights of the checkpoint that training resumes from, and none from elsewhere.

        Args:
            checkpoint: `last.ckpt`.
            started_from: where the weights came from that training started from at first.
        """
        self.module.resumed_from, self.module.started_from = checkpoint, started_from

    def run(self, context: Context) -> Produced:
        """Train, and test the best checkpoint where the module asks for it."""
        trainer, module = context.trainer, self.module
        if context.max_epochs == 0 and not module.tested_after_training:
            self._take_as_it_is(context)
            return Produced(module=module)
        resume = None if context.resume is None else str(context.resume)
        with self._features_of_a_frozen_backbone(context), restoring(context.resume):
            trainer.fit(module, datamodule=context.datamodule, ckpt_path=resume, weights_only=True)
        if trainer.interrupted or not module.tested_after_training:
            return Produced(module=module)
        best = self._best(context)
        trainer.test(best, dataloaders=context.datamodule.test_dataloader(), verbose=False)
        return Produced({context.folder.name: best.results}, module)

    @contextlib.contextmanager
    def _features_of_a_frozen_backbone(self, context: Context) -> Iterator[None]:
        """Give the head features that were computed once, where the backbone is not trained."""
        module, data = self.module, context.datamodule
        if module.train_backbone or not isinstance(module, ClassifierModule):
            yield
            return
        unused = "" if data.augmentation == "none" else f"; data.augmentation {data.augmentation} is not used"
        rank_zero_info(f"frozen backbone: the head learns from features of the un-augmented images{unused}")
        maps = {"train": bool(module.beta)} if context.max_epochs else {}
        if data.val_dataset is not None:
            maps["val"] = _looked_at(context.trainer)
        with context.stored_features(module, maps), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # as it is meant
            yield

    def _take_as_it_is(self, context: Context) -> None:
        trainer = context.trainer
        if context.datamodule.val_dataset is not None:
            with self._features_of_a_frozen_backbone(context):
                trainer.validate(self.module, datamodule=context.datamodule, verbose=False)
        else:
            context.start_processes(self.module)
        if context.is_rank_zero:
            context.save(self.module, ("last.ckpt", "best.ckpt"))

    def _best(self, context: Context) -> TrainedModule:
        """What the training has written as `best.ckpt`, else `last.ckpt`; the module itself where it wrote nothing."""
        context.trainer.strategy.barrier("checkpoints written")
        written = [path for path in (context.folder.best, context.folder.last) if path.is_file()]
        return load_module(written[0]) if written else self.module


def _looked_at(trainer: pl.Trainer) -> bool:
    """Whether a callback, not of Lightning's own, gets to see what validation steps return, maps among it."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(not type(c).on_validation_batch_end.__module__.startswith("lightning.") for c in callbacks)
