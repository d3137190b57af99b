"""Train a LightningModule."""

from collections.abc import Mapping
from pathlib import Path

from handful.networks import Classifier
from lightning_modules import Input, TrainedModule, load_module
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
        self.started_from = self.module.started_from

    def run(self, context: Context) -> Produced:
        """Train, and test the best checkpoint where the module asks for it."""
        trainer, module = context.trainer, self.module
        if context.max_epochs == 0 and not module.tested_after_training:
            self._take_as_it_is(context)
            return Produced(module=module)
        resume = None if context.resume is None else str(context.resume)
        trainer.fit(module, datamodule=context.datamodule, ckpt_path=resume, weights_only=True)
        if trainer.interrupted or not module.tested_after_training:
            return Produced(module=module)
        best = self._best(context)
        trainer.test(best, dataloaders=context.datamodule.test_dataloader(), verbose=False)
        return Produced({context.folder.name: best.results}, module)

    def _take_as_it_is(self, context: Context) -> None:
        trainer = context.trainer
        if context.datamodule.val_dataset is not None:
            trainer.validate(self.module, datamodule=context.datamodule, verbose=False)
        elif trainer.strategy.launcher is not None:
            trainer.validate(self.module, dataloaders=[], verbose=False)  # starts the other processes all the same
        if context.is_rank_zero:
            context.save(self.module, ("last.ckpt", "best.ckpt"))

    def _best(self, context: Context) -> TrainedModule:
        """What the training has written as `best.ckpt`, else `last.ckpt`; the module itself where it wrote nothing."""
        context.trainer.strategy.barrier("checkpoints written")
        written = [path for path in (context.folder.best, context.folder.last) if path.is_file()]
        return load_module(written[0]) if written else self.module
