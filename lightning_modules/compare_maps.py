"""How learning moves the information: plug-ins of several networks, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from handful.atomic import atomic, write_json
from handful.attribution import attribute
from handful.errors import UserError
from handful.report.attempts import attempt
from handful.report.information_maps import comparison_sheet
from handful.report.overlays import denormalise
from lightning_modules.base import PhaseModule
from lightning_modules.checkpoints import load_module
from lightning_modules.infomax_bottleneck import InfoMaxPlugin


class CompareMaps(PhaseModule):
    """Compare the plug-ins of several phases: of checkpoints of one training, or of two ways of training.

    Writes `comparison.json`, a row a plug-in as in its own test (mean bits general, sufficient, redundant, …), the
    same rows into the results, and `comparison.png`, the maps of the same images side by side.

    Args:
        plugins: name in the comparison → phase of an `InfoMaxPlugin`.
        maps: which maps are drawn.
        images: how many test images are drawn, evenly from the first to the last.
        seed: of the noise.
    """

    def __init__(
        self,
        plugins: dict[str, str],
        maps: Sequence[str] = ("general_head", "sufficient"),
        images: int = 6,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {"plugins": dict(plugins), "maps": list(maps), "images": images, "seed": seed}, logger=False
        )
        self.paths: dict[str, Path] = {}

    def needs(self) -> list[tuple[str, str]]:
        """The phases of the plug-ins."""
        return [(phase, "a plug-in") for phase in self.hparams["plugins"].values()]

    def hand_over(self, earlier: Mapping[str, Path]) -> None:
        """Find the plug-ins."""
        plugins = self.hparams["plugins"]
        self.paths = {name: self.folder(earlier, phase) / "best.ckpt" for name, phase in plugins.items()}

    def execute(self, trainer: pl.Trainer, datamodule: Any, resume_from: Path | None) -> None:
        """Test one plug-in after another; draw."""
        datamodule.trainer = trainer
        dataset = datamodule.test_dataset
        count = min(self.hparams["images"], len(dataset))
        chosen = torch.linspace(0, len(dataset) - 1, count).round().long().tolist()
        images = torch.stack([dataset[i][0] for i in chosen])
        rows, drawn = {}, {}
        for name, path in self.paths.items():
            plugin = load_module(path)
            if not isinstance(plugin, InfoMaxPlugin):
                raise UserError(f"{path}: holds no plug-in, but {type(plugin).__name__}")
            trainer.test(plugin, dataloaders=datamodule.test_dataloader(), verbose=False)
            rows[name] = plugin.results
            if trainer.is_global_zero:
                drawn[name] = {
                    kind: attribute(
                        plugin.model.cpu(), images, method=kind, seed=self.hparams["seed"], image_ids=chosen
                    ).map()
                    for kind in self.hparams["maps"]
                }
        self.trainer = trainer
        self.report(rows)
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            write_json(folder / "comparison.json", rows)
            colours = denormalise(images, datamodule.mean, datamodule.std)

            def draw() -> None:
                sheet = comparison_sheet(colours, drawn, self.hparams["maps"])
                with atomic(folder / "comparison.png") as file:
                    sheet.save(file, format="PNG")

            attempt(self, "comparison.png", draw)
        trainer.strategy.barrier("comparison written")
