"""The last phase: every stage on the test images, one row each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from handful.errors import UserError
from lightning_modules.base import ClassifierModule, PhaseModule
from lightning_modules.checkpoints import load_module

#: The stages of the SLDD-Model and the phases that hold them.
SLDD_STAGES = {"dense": "dense", "sparse": "sparsify", "finetuned": "finetune"}


class Evaluate(PhaseModule):
    """Test the classifier of every stage: accuracy in per cent, features, diversity@k, dependence.

    A stage that got worse is reported as it is.

    Args:
        stages: name of the stage in `results.json` → name of the phase whose `best.ckpt` is tested. By default
            those of the SLDD-Model that are part of the run.
        checkpoint: `best.ckpt` or `last.ckpt`.
    """

    def __init__(self, stages: dict[str, str] | None = None, checkpoint: str = "best.ckpt") -> None:
        super().__init__()
        self.given = stages is not None
        self.stages = dict(SLDD_STAGES if stages is None else stages)
        self.save_hyperparameters({"stages": self.stages, "checkpoint": checkpoint}, logger=False)
        self.checkpoint = checkpoint
        self.paths: dict[str, Path] = {}

    def needs(self) -> list[tuple[str, str]]:
        """The phases of the stages that were asked for."""
        return [(phase, "a classifier") for phase in self.stages.values()] if self.given else []

    def hand_over(self, earlier: Mapping[str, Path]) -> None:
        """Find the checkpoints of the stages."""
        self.paths = {
            stage: earlier[phase] / self.checkpoint for stage, phase in self.stages.items() if phase in earlier
        }
        if not self.paths:
            raise UserError(f"nothing to evaluate: none of the phases {', '.join(self.stages.values())} is there")

    def execute(self, trainer: pl.Trainer, datamodule: Any, resume_from: Path | None) -> None:
        """Test one stage after another; evaluating again costs little, so nothing is resumed."""
        datamodule.trainer = trainer
        rows = {}
        for stage, path in self.paths.items():
            module = load_module(path)
            if not isinstance(module, ClassifierModule):
                raise UserError(f"{path}: holds no classifier, but {type(module).__name__}")
            module.stage = stage
            trainer.test(module, datamodule=datamodule, verbose=False)
            rows[stage] = module.test_row()
        self.trainer = trainer
        self.report(rows)
