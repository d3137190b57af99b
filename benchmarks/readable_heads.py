"""Readable heads on the same frozen features: accuracy before any finetuning, seconds, and the coverage of sets.

`python -m benchmarks.readable_heads [--run RUN]`: the features are those of the run's dense stage, which a frozen
backbone keeps in the cache; training and validation images together. Without `--run`, `configs/sldd/photos_frozen.yaml`
is run on `cub100.zip` of HANDFUL_DATA at 160 pixels. Heads: SLDD (greedy, cut average and refit), Q-SENN's
ternary layer, QPM, CHiQPM; 50 features, 5 per class. Coverage is measured over 200 random, stratified halves of the
test images. CPU seconds.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.assignment import BinaryAssignmentClassifier
from handful.conformal import (
    Hierarchy,
    adaptive_scores,
    calibrate,
    set_quality,
    stratified_halves,
    threshold_scores,
)
from handful.errors import UserError
from handful.networks import BinaryHead, Head
from handful.sparse import fit_sparse_layer
from lightning_modules.classifier import ClassifierModule
from pipelines.finished_run import Run
from pipelines.parse import parse_pipeline
from pipelines.plain_options import PHOTOS
from pipelines.runner import Runner
from pipelines.stored_features import features_of

N, K, SPLITS = 50, 5, 200
FROZEN = PHOTOS.with_name("photos_frozen.yaml")

Pair = tuple[Tensor, Tensor]


def binary(train: Pair, relu: bool, rho: float) -> BinaryHead:
    """The binary head of a choice."""
    found = BinaryAssignmentClassifier(n_features=N, features_per_class=K, rho=rho).fit(*(x.numpy() for x in train))
    features = train[0]
    selection = torch.from_numpy(found.selection_)
    chosen = features[:, selection]
    head = BinaryHead(features.shape[1], len(found.classes_), N, relu=relu).eval()
    head.assign(
        selection, chosen.mean(dim=0), chosen.std(dim=0, unbiased=False), torch.from_numpy(found.assignment_)
    )
    return head


def heads(train: Pair) -> dict[str, Callable[[], Head]]:
    """Name → how the head is made."""
    classes = int(train[1].max()) + 1

    def sparse(cut: str) -> Head:
        return fit_sparse_layer(*train, n_features=N, features_per_class=K, cut=cut, num_classes=classes)[0]

    return {
        "SLDD, cut average": lambda: sparse("average"),
        "SLDD, cut refit": lambda: sparse("refit"),
        "Q-SENN, first round": lambda: sparse("ternary"),
        "QPM": lambda: binary(train, relu=False, rho=0.0),
        "QPM with ReLU": lambda: binary(train, relu=True, rho=0.0),
        "CHiQPM, ρ 0.5": lambda: binary(train, relu=True, rho=0.5),
    }


@torch.no_grad()
def coverage_lines(head: BinaryHead, test: Pair, asked: float) -> list[str]:
    """Mean coverage and size over the splits, per kind of sets."""
    features, labels = test
    logits = head(features)
    present, predicted = head.standardise(features).clamp(min=0), logits.argmax(dim=1)
    probabilities = logits.softmax(dim=1)
    fixed = {"THR": threshold_scores(probabilities), "APS": adaptive_scores(probabilities, None)}
    lines = []
    by_level: dict[int, Tensor] = {}
    for name in (*fixed, "hierarchy"):
        found = []
        for seed in range(SPLITS):
            first, second = stratified_halves(labels, seed)
            if name == "hierarchy":
                of_level, first = (first[half] for half in stratified_halves(labels[first], seed))
                fitted = Hierarchy.fit(
                    present[of_level], predicted[of_level], labels[of_level], head.weight != 0, asked
                )
                if fitted.level not in by_level:
                    by_level[fitted.level] = fitted.scores(present, predicted)
                scores = by_level[fitted.level]
            else:
                scores = fixed[name]
            sets = calibrate(scores[first], labels[first], asked).of(scores[second])
            found.append(set_quality(sets, labels[second]))
        coverages = torch.tensor([one.coverage for one in found], dtype=torch.float64)
        sizes = torch.tensor([one.size for one in found])
        lines.append(
            f"| {name} | {100 * asked:g} | {100 * coverages.mean():.2f} ± {100 * coverages.std():.2f} | "
            f"{100 * coverages.min():.2f} | {sizes.mean():.2f} |"
        )
    return lines


def features_of_run(run: Run) -> tuple[Pair, Pair]:
    """Features and labels of a run's training (with validation) and test images, by its dense stage.

    Raises:
        UserError: its dense stage is no classifier, or its images are not there.
    """
    dense = run.load("dense")
    if not isinstance(dense, ClassifierModule):
        raise UserError(f"{run.folder}: the dense stage is no classifier")
    data = run.datamodule()
    splits = ["train"] + ([] if data.val_dataset is None else ["val"])
    parts = [features_of(dense, dense.model.eval(), data, split) for split in splits]
    train = torch.cat([features for features, _ in parts]), torch.cat([labels for _, labels in parts])
    return train, features_of(dense, dense.model, data, "test")


def own_run(folder: Path) -> Path:
    """A run of `photos_frozen.yaml` on the photographs of HANDFUL_DATA; finished phases are skipped."""
    data = Path(os.environ.get("HANDFUL_DATA", ".")) / "cub100.zip"
    options = {"data.root": data, "data.image_size": 160, "network.backbone": "tf_efficientnet_lite0",
               "phases.sparsify.module.n_features": N, "wandb.mode": "disabled", "run_dir": folder}  # fmt: skip
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    Runner(parse_pipeline(["--config", str(FROZEN), *arguments])[0]).run()
    return folder


def main() -> None:
    """Measure and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run", type=Path, default=None, help="folder of a finished run")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        run = Run(given.run or own_run(Path("runs/readable_heads")))
        train, test = features_of_run(run)
    except UserError as error:
        sys.exit(str(error))
    data = run.results["data"]
    lines = [
        f"{len(train[0]):,} training and {len(test[0]):,} test images of {data['num_classes']} classes at "
        f"{data['image_size']} px (data {data['fingerprint']}), {train[0].shape[1]:,} features of "
        f"{run.config['network']['backbone']}; {N} features, {K} per class; nothing is finetuned.",
        "", "| head | test accuracy % | features | per class | CPU s |", "|---|---|---|---|---|",
    ]  # fmt: skip
    last = None
    for name, make in heads(train).items():
        began = time.process_time()
        head = make()
        seconds = time.process_time() - began
        with torch.no_grad():
            right = (head(test[0]).argmax(dim=1) == test[1]).double().mean()
        size = f"{head.n_features} | {head.features_per_class:.2f}"
        lines.append(f"| {name} | {100 * right:.2f} | {size} | {seconds:.1f} |")
        print(lines[-1], flush=True)
        last = head
    assert isinstance(last, BinaryHead)
    lines += [
        "", f"Sets of the last head over {SPLITS} halves of the test images:", "",
        "| sets | asked % | coverage %, mean ± deviation | least | classes |", "|---|---|---|---|---|",
        *coverage_lines(last, test, 0.9),
    ]  # fmt: skip
    write_section("Readable heads on frozen features", lines)


if __name__ == "__main__":
    main()
