"""The sparse stage: features of the training images → selection → regularisation path → sparse layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from handful.atomic import write_json
from handful.errors import UserError
from handful.networks import Classifier, Head, SparseHead
from handful.report.csv_file import write_csv
from handful.sparse import SparseRecord, column_statistics, fit_sparse_layer
from handful.sparse.selection import Selection
from lightning_modules import ClassifierModule, Finetune, Input, load_classifier
from lightning_modules.checkpoints import write_tensors
from lightning_modules.trained_module import folder_of
from pipelines.phases.base import Phase, Produced
from pipelines.phases.context import Context
from pipelines.phases.dashboards import log_points

_Data = tuple[Tensor, Tensor]


class Sparsify(Phase):
    """Select features and solve the sparse layer on a trained dense classifier.

    Features are those of the un-augmented training images, in evaluation mode and float32, gathered over the
    ranks without duplicates and in the dataset's order; rank zero solves. Writes `selection.json`, `path.csv`,
    `layer.json` and `best.ckpt` (a sparse classifier) into the phase's folder.

    Args:
        n_features: how many of the backbone's features may decide (n_f*), or "all" of those that vary.
        features_per_class: wanted mean number of features per class (n_wc).
        source: name of the phase whose classifier is made sparse. Of one that is sparse already the features stay.
        solver: `exact`, `saga` (the reference's iterates) or `glm_saga` (the package itself).
        selection: `greedy` or `saga` (the published procedure).
        cut: `average` keeps the C · `features_per_class` largest weights overall (the paper's), `per_class`
            bounds every class, `refit` fits the kept weights again, `ternary` makes them −w, 0 or w (Q-SENN).
        search: how the point is found: `path` solves every λ down to it, `bisect` and `coarse_to_fine` few.
        choose: the path point by `density` (the reference's rule) or by `validation` accuracy.
        alpha: elastic-net mixing of the path, in [0, 1]; 1 is the lasso.
        n_lambdas: length of the λ grid.
        seed: of the solvers that draw.
        keep_features: keep the gathered features as `features.pt`.

    Source: "Take 5" (arXiv 2303.13166), step 2.
    """

    leaves = frozenset({"a network", "a classifier", "a sparse classifier"})
    needs_all_images = True

    def __init__(
        self,
        n_features: int | Literal["all"] = 50,
        features_per_class: int = 5,
        source: str = "dense",
        solver: Literal["exact", "saga", "glm_saga"] = "exact",
        selection: Literal["greedy", "saga"] = "greedy",
        cut: Literal["average", "per_class", "refit", "ternary"] = "average",
        search: Literal["path", "bisect", "coarse_to_fine"] = "path",
        choose: Literal["density", "validation"] = "density",
        alpha: float = 0.99,
        n_lambdas: int = 100,
        seed: int = 0,
        keep_features: bool = False,
    ) -> None:
        self.source = source
        self.keep_features = keep_features
        #: Arguments of `fit_sparse_layer`.
        self.options: dict[str, Any] = {
            "n_features": n_features,
            "features_per_class": features_per_class,
            "solver": solver,
            "selection": selection,
            "cut": cut,
            "search": search,
            "choose": choose,
            "alpha": alpha,
            "n_lambdas": n_lambdas,
            "seed": seed,
        }
        self._dense: ClassifierModule | None = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phase of the dense stage."""
        return (Input(self.source, "a classifier"),)

    def check(self, classifier: Classifier) -> None:
        """`n_features` must exist in the backbone, `features_per_class` among the selected ones."""
        available = classifier.num_features
        wanted = available if self.options["n_features"] == "all" else self.options["n_features"]
        if not 1 <= wanted <= available:
            raise UserError(
                f"n_features is {wanted}, but the backbone has {available} features; choose 1 to {available}"
            )
        if not 1 <= self.options["features_per_class"] <= wanted:
            raise UserError(
                f"features_per_class is {self.options['features_per_class']}, but {wanted} features are selected; "
                f"choose 1 to {wanted}"
            )
        if not 0 <= self.options["alpha"] <= 1:
            raise UserError(f"alpha: in [0, 1], not {self.options['alpha']}")
        if self.options["n_lambdas"] < 2:
            raise UserError(f"n_lambdas: at least 2 points make a path, not {self.options['n_lambdas']}")

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take the dense classifier of the `source` phase."""
        self._dense = load_classifier(folder_of(earlier, self.source) / "best.ckpt")

    def run(self, context: Context) -> Produced:
        """Gather features, solve on rank zero, write files. A solve cut short starts over: it takes seconds."""
        dense = self._dense or load_classifier(folder_of(context.earlier, self.source) / "best.ckpt")
        data = context.datamodule
        train = context.features_of(dense, "train")
        val = None if data.val_dataset is None else context.features_of(dense, "val")

        def solve() -> Finetune | None:
            return None if train is None else self._solve(context, dense, train, val)

        return Produced(module=context.on_rank_zero(solve))

    def _solve(self, context: Context, dense: ClassifierModule, train: _Data, val: _Data | None) -> Finetune:
        features, labels = train
        folder = context.folder.path
        if self.keep_features:
            write_tensors({"features": features, "labels": labels}, folder / "features.pt")
        dead = column_statistics(features).dead.tolist()
        options = self.options | {"selection": _kept_selection(dense.model.head) or self.options["selection"]}
        if options["n_features"] == "all":
            varying = sorted(set(range(features.shape[1])) - set(dead))
            everything = Selection(varying, 0.0, "all", [{"feature": number, "lam": 0.0} for number in varying])
            options |= {"n_features": len(varying), "selection": everything}
        head, record = fit_sparse_layer(
            features, labels, num_classes=dense.num_classes, val=val, progress=True, **options
        )
        if dead:
            rank_zero_info(f"features that never vary, and were not eligible: {', '.join(map(str, dead))}")
        write_records(folder, record, dead)
        log_points(context, "path", record.path)
        sparse = Finetune(
            dense.network.plain(),
            dense.num_classes,
            n_features=len(head.selection),
            beta=dense.beta,
            train_backbone=dense.train_backbone,
            head={"kind": head.kind},
        )
        sparse.model.backbone.load_state_dict(dense.model.backbone.state_dict())
        sparse.model.inputs = dense.model.inputs
        sparse.model.head.load_state_dict(head.state_dict())
        context.save(sparse)
        rank_zero_info(
            f"sparse layer: {head.n_features} of {features.shape[1]} features, "
            f"{head.features_per_class:.2f} per class"
        )
        return sparse


def _kept_selection(head: Head) -> Selection | None:
    """The features of a head that is sparse already."""
    if not isinstance(head, SparseHead):
        return None
    features = head.selection.tolist()
    return Selection(features, 0.0, "kept", [{"feature": feature, "lam": 0.0} for feature in features])


def write_records(folder: Path, record: SparseRecord, dead: list[int]) -> None:
    """Write `selection.json`, `path.csv` and `layer.json`: what was solved, in plain values."""
    write_json(folder / "selection.json", record.selection | {"zero_variance": dead})
    write_json(folder / "layer.json", record.layer)
    columns = list(record.path[0])
    write_csv(folder / "path.csv", columns, [[row.get(column) for column in columns] for row in record.path])
