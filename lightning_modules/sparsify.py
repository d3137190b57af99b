"""The sparse stage: features of the training images → selection → regularisation path → sparse layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from handful.atomic import write_json
from handful.errors import UserError
from handful.networks import Classifier
from handful.report.csv_file import write_csv
from handful.sparse import SparseRecord, column_statistics, fit_sparse_layer
from lightning_modules.base import ClassifierModule, PhaseModule
from lightning_modules.checkpoints import load_module, save_module, write_tensors
from lightning_modules.finetune import Finetune


class Sparsify(PhaseModule):
    """Select features and solve the sparse layer on a trained dense classifier.

    Features are those of the un-augmented training images, in evaluation mode and float32, gathered over the
    ranks without duplicates and in the dataset's order; rank zero solves. Writes `selection.json`, `path.csv`,
    `layer.json` and `best.ckpt` (a sparse classifier) into the phase's folder.

    Args:
        n_features: how many of the backbone's features may decide (n_f*).
        features_per_class: wanted mean number of features a class (n_wc).
        source: name of the phase whose classifier is made sparse.
        solver: `exact`, `saga` (the reference's iterates) or `glm_saga` (the package itself).
        selection: `greedy` or `saga` (the published procedure).
        cut: `average` keeps the C · `features_per_class` largest weights overall (the paper's), `per_class`
            bounds every class, `refit` solves the kept weights anew.
        search: how the point is found: `path` solves every λ down to it, `bisect` and `coarse_to_fine` few.
        choose: the path point by `density` (the reference's rule) or by `validation` accuracy.
        alpha: elastic-net mixing of the path, in [0, 1]; 1 is the lasso.
        n_lambdas: length of the λ grid.
        seed: of the solvers that draw.
        keep_features: keep the gathered features as `features.pt`.

    Source: "Take 5" (arXiv 2303.13166), step 2.
    """

    leaves = frozenset({"a network", "a classifier", "a sparse classifier"})

    def __init__(
        self,
        n_features: int = 50,
        features_per_class: int = 5,
        source: str = "dense",
        solver: Literal["exact", "saga", "glm_saga"] = "exact",
        selection: Literal["greedy", "saga"] = "greedy",
        cut: Literal["average", "per_class", "refit"] = "average",
        search: Literal["path", "bisect", "coarse_to_fine"] = "path",
        choose: Literal["density", "validation"] = "density",
        alpha: float = 0.99,
        n_lambdas: int = 100,
        seed: int = 0,
        keep_features: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.source = source
        self.dense: ClassifierModule | None = None
        self._gathered: list[list[tuple[Tensor, Tensor]]] = [[], []]

    def check(self, classifier: Classifier) -> None:
        """`n_features` must exist in the backbone, `features_per_class` among the selected ones."""
        wanted, there = self.hparams["n_features"], classifier.num_features
        if not 1 <= wanted <= there:
            raise UserError(f"n_features is {wanted}, but the backbone has {there} features; choose 1 to {there}")
        if not 1 <= self.hparams["features_per_class"] <= wanted:
            raise UserError(
                f"features_per_class is {self.hparams['features_per_class']}, but {wanted} features are selected; "
                f"choose 1 to {wanted}"
            )
        if not 0 <= self.hparams["alpha"] <= 1:
            raise UserError(f"alpha: in [0, 1], not {self.hparams['alpha']}")
        if self.hparams["n_lambdas"] < 2:
            raise UserError(f"n_lambdas: at least 2 points make a path, not {self.hparams['n_lambdas']}")

    def needs(self) -> list[tuple[str, str]]:
        """The phase of the dense stage."""
        return [(self.source, "a classifier")]

    def hand_over(self, earlier: Mapping[str, Path]) -> None:
        """Take the dense classifier of the `source` phase."""
        path = self.folder(earlier, self.source) / "best.ckpt"
        dense = load_module(path)
        if not isinstance(dense, ClassifierModule):
            raise UserError(f"{path}: holds no classifier, but {type(dense).__name__}")
        self.dense = dense

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the features of this rank's images."""
        assert self.dense is not None
        images, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            features = self.dense.model.features(images.float())
        self._gathered[dataloader_idx].append((features.cpu(), labels.cpu()))

    def execute(self, trainer: pl.Trainer, datamodule: Any, resume_from: Path | None) -> None:
        """Gather features, solve on rank zero, write files. A solve cut short starts over: it takes seconds."""
        assert self.dense is not None
        datamodule.trainer = trainer
        folder = Path(trainer.default_root_dir)
        loaders = [datamodule.plain_train_dataloader()]
        sizes = [len(datamodule.plain_train_dataset)]
        if datamodule.val_dataset is not None:
            loaders.append(datamodule.val_dataloader())
            sizes.append(len(datamodule.val_dataset))
        self._gathered = [[], []]
        trainer.limit_val_batches = 1.0  # the layer is that of all training images, whatever a trial run limits
        trainer.validate(self, dataloaders=loaders, verbose=False)
        parts = [_join(part) for part in self._gathered[: len(sizes)]]
        self._gathered = [[], []]
        if trainer.world_size > 1:
            write_tensors([list(part) for part in parts], folder / f"part.{trainer.global_rank}.tmp")
            trainer.strategy.barrier("features written")
        failure = ""
        if trainer.is_global_zero:
            try:
                self._solve(folder, _in_order(folder, parts, sizes, trainer.world_size))
            except (UserError, OSError) as error:
                failure = str(error)
        # every rank ends with the sentence of rank zero, and none waits at a barrier for it
        failure = trainer.strategy.broadcast(failure)
        if failure:
            raise UserError(failure)

    def _solve(self, folder: Path, gathered: list[tuple[Tensor, Tensor]]) -> None:
        assert self.dense is not None
        (features, labels), val = gathered[0], gathered[1] if len(gathered) > 1 else None
        h = self.hparams
        if h["keep_features"]:
            write_tensors({"features": features, "labels": labels}, folder / "features.pt")
        head, record = fit_sparse_layer(
            features,
            labels,
            num_classes=self.dense.num_classes,
            n_features=h["n_features"],
            features_per_class=h["features_per_class"],
            solver=h["solver"],
            selection=h["selection"],
            cut=h["cut"],
            search=h["search"],
            choose=h["choose"],
            alpha=h["alpha"],
            n_lambdas=h["n_lambdas"],
            val=val,
            seed=h["seed"],
            progress=True,
        )
        dead = column_statistics(features).dead.tolist()
        if dead:
            rank_zero_info(f"features that never vary, and were not eligible: {', '.join(map(str, dead))}")
        _write_records(folder, record, dead)
        sparse = Finetune(
            self.dense.network.plain(),
            self.dense.num_classes,
            n_features=len(head.selection),
            beta=self.dense.beta,
        )
        sparse.model.backbone.load_state_dict(self.dense.model.backbone.state_dict())
        sparse.model.inputs = self.dense.model.inputs
        sparse.model.head.load_state_dict(head.state_dict())
        save_module(sparse, folder / "best.ckpt")
        rank_zero_info(
            f"sparse layer: {head.n_features} of {features.shape[1]} features, "
            f"{head.features_per_class:.2f} a class"
        )


def _join(part: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if not part:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
    return torch.cat([f for f, _ in part]), torch.cat([y for _, y in part])


def _in_order(
    folder: Path, own: list[tuple[Tensor, Tensor]], sizes: list[int], world: int
) -> list[tuple[Tensor, Tensor]]:
    """All ranks' parts, image i of the dataset in row i: rank r holds the rows r, r + world and so on."""
    if world == 1:
        for (features, _), size in zip(own, sizes, strict=True):
            if len(features) != size:
                raise UserError(f"features of {len(features)} images came in, but there are {size}")
        return own
    files = [folder / f"part.{rank}.tmp" for rank in range(world)]
    parts = [torch.load(file, weights_only=True) for file in files]
    gathered = []
    for loader, size in enumerate(sizes):
        width = max(part[loader][0].shape[1] for part in parts)
        features, labels = torch.empty(size, width), torch.empty(size, dtype=torch.int64)
        for rank, part in enumerate(parts):
            if len(part[loader][1]):
                features[rank::world], labels[rank::world] = part[loader]
        gathered.append((features, labels))
    for file in files:
        file.unlink()
    return gathered


def _write_records(folder: Path, record: SparseRecord, dead: list[int]) -> None:
    """`selection.json`, `path.csv` and `layer.json`: what was solved, in plain values."""
    write_json(folder / "selection.json", record.selection | {"zero_variance": dead})
    write_json(folder / "layer.json", record.layer)
    columns = list(record.path[0])
    write_csv(folder / "path.csv", columns, [[row.get(column) for column in columns] for row in record.path])
