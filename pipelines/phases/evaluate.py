"""Every stage on the test images, one row each."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from handful.errors import UserError
from lightning_modules import ClassifierModule, Input, load_classifier
from pipelines.phases.base import Phase, Produced
from pipelines.phases.context import Context
from pipelines.stored_features import FrozenFeatures

#: The stages of the SLDD-Model and the phases that hold them.
SLDD_STAGES = {"dense": "dense", "sparse": "sparsify", "finetuned": "finetune"}


class Evaluate(Phase):
    """Test the classifier of every stage: accuracy in per cent, features, diversity@k, dependence.

    A stage that got worse is reported as it is.

    Args:
        stages: name of the stage in `results.json` → name of the phase whose checkpoint is tested. By default those
            of the SLDD-Model that are part of the run.
        checkpoint: `best.ckpt` or `last.ckpt`.
    """

    def __init__(self, stages: dict[str, str] | None = None, checkpoint: str = "best.ckpt") -> None:
        self._given = stages is not None
        self.stages = dict(SLDD_STAGES if stages is None else stages)
        self.checkpoint = checkpoint
        self.paths: dict[str, Path] = {}

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phases of the stages that were asked for."""
        return tuple(Input(phase, "a classifier") for phase in self.stages.values()) if self._given else ()

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Find the checkpoints of the stages."""
        self.paths = {
            stage: earlier[phase] / self.checkpoint for stage, phase in self.stages.items() if phase in earlier
        }
        if not self.paths:
            raise UserError(f"nothing to evaluate: none of the phases {', '.join(self.stages.values())} was run")

    def run(self, context: Context) -> Produced:
        """Test one stage after another; evaluating again costs little, so nothing is resumed."""
        rows = {}
        for stage, path in self.paths.items():
            module = load_classifier(path)
            module.stage = stage
            with self._features_of_a_frozen_backbone(context, module):
                context.trainer.test(module, datamodule=context.datamodule, verbose=False)
            rows[stage] = module.test_row()
        return Produced(rows)

    @staticmethod
    def _features_of_a_frozen_backbone(
        context: Context, module: ClassifierModule
    ) -> contextlib.AbstractContextManager[None]:
        """Let stages that share a frozen backbone share one pass through the images, where the disk can hold the maps.

        Pooled features are those of the images to the bit, and so are all measures but diversity@k, of which the maps
        come from half precision.
        """
        if module.train_backbone:
            return contextlib.nullcontext()
        context.start_processes(module)
        if not FrozenFeatures(module, context.datamodule, context.trainer).keeps_maps("test"):
            return contextlib.nullcontext()
        return context.stored_features(module, {"test": True})
