"""`python train.py predict --images FOLDER`: what a run's model takes pictures for."""

from pathlib import Path
from typing import Literal

import torch

from handful.conformal.sets import class_names_of
from handful.errors import UserError
from handful.explain.feature_names import read_feature_names
from handful.explain.possible import possible_classes
from handful.images import Pictures
from handful.report.csv_file import write_csv
from handful.report.prediction_table import prediction_columns, prediction_rows, said_accuracy
from lightning_modules.batches import class_probabilities
from lightning_modules.classifier import ClassifierModule
from pipelines.conformal import calibrated_sets
from pipelines.finished_run import Run
from pipelines.output_folder import output_folder


def predict(
    run_dir: str,
    images: str,
    phase: str | None = None,
    out: str | None = None,
    batch_size: int = 32,
    sets: Literal["thr", "aps", "hierarchy"] | None = None,
    max_megapixels: float = 120,
) -> Path:
    """Predict the classes of pictures without labels, with a run's model.

    Writes `predictions.csv`: a row per picture with its path, the predicted class, its probability and the probability
    of every class. Where the folder around a picture has the name of a class, it is taken for the true class. Pictures
    that cannot be read are listed and left out.

    Args:
        run_dir: folder of the run.
        images: an image file, or a folder that is searched for images, nested folders included.
        phase: whose model: a stage or phase of the run; the last finished one if not given.
        out: folder to write to; RUN_DIR/predict if not given.
        batch_size: pictures predicted at once.
        sets: adds the classes that may be the true one, the most probable first, by what `evaluate --conformal` has
            calibrated; and in words the features that speak for all of them, and those that would decide.
        max_megapixels: larger pictures are not read, in millions of pixels.

    Returns:
        The table.

    Raises:
        UserError: no such run, phase or image; no image that can be read; no folder to write to.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, not {batch_size}")
    run = Run(run_dir)
    module = run.load(phase)
    if not isinstance(module, ClassifierModule):
        raise UserError(f"--phase: {run.phase_of(phase)} of {run_dir} holds no classifier that could predict")
    module = module.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    inputs = run.inputs()
    names = list(inputs.class_names)
    calibrated = None if sets is None else calibrated_sets(run, phase, sets, module.model)
    pictures = Pictures(Path(images).expanduser(), inputs, max_megapixels)
    path = output_folder(out, run.folder / "predict") / "predictions.csv"
    files: list[str] = []
    labels: list[int | None] = []
    found: list[torch.Tensor] = []
    members: list[torch.Tensor] = []
    words: list[str] = []
    feature_names = read_feature_names(run.folder, module.model.num_features)
    for batch in pictures.batches(batch_size, "predicting"):
        with torch.no_grad():
            features = module.model.features(batch.images.to(module.device))
            logits = module.model.head(features)
            found.append(class_probabilities(logits).cpu())
        if calibrated is not None:
            features, logits = features.float().cpu(), logits.cpu()
            members.append(calibrated.of(features))
            head, coverage = module.model.head, calibrated.coverage
            words += [
                possible_classes(row, coverage, one, head, names, own).sentence(feature_names)
                for row, one, own in zip(members[-1], logits, features, strict=True)
            ]
        files += batch.names
        labels += batch.labels
    probabilities = torch.cat(found)
    known = labels if any(label is not None for label in labels) else None
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, rows = prediction_columns(names, known is not None), prediction_rows(files, names, probabilities, known)
    if members:
        columns = [*columns, "conformal set", "in words"]
        rows = (
            [*row, "; ".join(class_names_of(held, names, shares)), sentence]
            for row, held, shares, sentence in zip(rows, torch.cat(members), probabilities, words, strict=True)
        )
    write_csv(path, columns, rows)
    pictures.warn()
    predicted = [names[label] for label in probabilities.argmax(dim=1).tolist()]
    for sentence in said_accuracy([None if label is None else names[label] for label in labels], predicted):
        print(sentence, flush=True)
    return path
