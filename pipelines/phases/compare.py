"""How learning moves the information: plug-ins of several networks, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from handful.atomic import atomic, write_json
from handful.attribution import attribute
from handful.errors import UserError
from handful.report.information_maps import comparison_sheet
from handful.report.log_and_skip import attempt
from handful.report.overlays import denormalise
from lightning_modules import InfoMaxPlugin, Input, load_module
from lightning_modules.trained_module import folder_of
from pipelines.phases.base import Phase, Produced
from pipelines.phases.context import Context
from pipelines.phases.dashboards import log_picture


class CompareMaps(Phase):
    """Compare the plug-ins of several phases: of checkpoints of one training, or of two ways of training.

    Writes `comparison.json`, a row per plug-in as in its own test (mean bits general, sufficient, redundant, …), the
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
        self.plugins, self.maps, self.images, self.seed = dict(plugins), list(maps), images, seed
        self.paths: dict[str, Path] = {}

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phases of the plug-ins."""
        return tuple(Input(phase, "a plug-in") for phase in self.plugins.values())

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Find the plug-ins."""
        self.paths = {name: folder_of(earlier, phase) / "best.ckpt" for name, phase in self.plugins.items()}

    def run(self, context: Context) -> Produced:
        """Test one plug-in after another; draw."""
        trainer, datamodule = context.trainer, context.datamodule
        dataset = datamodule.test_dataset
        count = min(self.images, len(dataset))
        chosen = torch.linspace(0, len(dataset) - 1, count).round().long().tolist()
        images = torch.stack([dataset[i][0] for i in chosen])
        rows, drawn = {}, {}
        for name, path in self.paths.items():
            plugin = load_module(path)
            if not isinstance(plugin, InfoMaxPlugin):
                raise UserError(f"{path}: holds {type(plugin).__name__}, not a plug-in")
            trainer.test(plugin, dataloaders=datamodule.test_dataloader(), verbose=False)
            rows[name] = plugin.results
            if context.is_rank_zero:
                model = plugin.model.cpu()
                drawn[name] = {
                    kind: attribute(model, images, method=kind, seed=self.seed, image_ids=chosen).map()
                    for kind in self.maps
                }
        if context.is_rank_zero:
            folder = context.folder.path
            write_json(folder / "comparison.json", rows)
            colours = denormalise(images, datamodule.mean, datamodule.std)

            def draw() -> None:
                sheet = comparison_sheet(colours, drawn, self.maps)
                with atomic(folder / "comparison.png") as file:
                    sheet.save(file, format="PNG")

            attempt(self, "comparison.png", draw)
            log_picture(context, "comparison", folder / "comparison.png")
        return Produced(rows)
