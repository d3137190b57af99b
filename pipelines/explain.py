"""`python train.py explain`: why a run's model decides as it does about a person's own pictures."""

import sys
from pathlib import Path
from typing import Literal

import torch

from handful.errors import UserError
from handful.explain.explainer import Explainer, method_names
from handful.explain.explanation import SIDE
from handful.explain.feature_names import read_feature_names
from handful.images import Pictures
from handful.networks import Classifier
from handful.progress import print_line
from handful.report.prediction_table import said_accuracy
from handful.text import safe_text
from pipelines.conformal import calibrated_sets
from pipelines.explain_files import ExplanationFiles
from pipelines.finished_run import Run
from pipelines.output_folder import output_folder

#: Images that are explained together.
BATCH = 8


def explain(
    run_dir: str,
    images: str,
    methods: list[str] | str = "cam,integrated_gradients",
    target: str = "pred",
    stage: str | None = None,
    out: str | None = None,
    features: int = 5,
    seed: int = 0,
    sets: Literal["thr", "aps", "hierarchy"] | None = None,
    max_megapixels: float = 120,
) -> Path:
    """Explain what a run's model says about pictures.

    Writes `index.html`, a page that needs nothing but itself (of more than 30 pictures an index of all, beside
    `index-1.html` and so on); `explain.json` with all numbers; and `maps.npz` with the raw maps, `<method>` `(N, …)`,
    in the order of the page. Pictures that cannot be read are listed and left out. Where the folder around a picture
    has the name of a class, it is taken for the true class.

    Args:
        run_dir: folder of the run.
        images: an image file, or a folder that is searched for images, nested folders included.
        methods: names of attribution methods, as a list or with commas between; "none" leaves them out.
        target: the class to explain: "pred" for each image's predicted class, or a class by name or number: why it is
            not that class, where another is predicted.
        stage: whose model: a stage or phase of the run; the last finished one if not given.
        out: folder to write to; RUN_DIR/explain if not given.
        features: how many features are shown at most.
        seed: of methods that draw random numbers.
        sets: says which classes a picture may be of, by what `evaluate --conformal` has calibrated.
        max_megapixels: larger pictures are not read, in millions of pixels.

    Returns:
        The page.

    Raises:
        UserError: no such run, stage, image, method or class; no image that can be read; no folder to write to.
    """
    method_names(methods)  # refused before anything is read
    run = Run(run_dir)
    phase = run.phase_of(stage)
    model = getattr(run.load(stage), "model", None)
    if not isinstance(model, Classifier):
        raise UserError(f"--stage: {phase} of {run_dir} holds no classifier that could be explained")
    model.feature_names = read_feature_names(run.folder, model.num_features)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    calibrated = None if sets is None else calibrated_sets(run, stage, sets, model)
    explainer = Explainer(model, run.inputs(), methods, target, features, seed, calibrated)
    pictures = Pictures(Path(images).expanduser(), explainer.inputs, max_megapixels)
    folder = output_folder(out, run.folder / "explain")
    title = f"Why {run.config.get('name', 'the model')} decides"
    head = {"run": run_dir, "phase": phase, "classes": list(explainer.inputs.class_names)}
    files = ExplanationFiles(folder, title, _facts(run, phase, model), head)
    true: list[str | None] = []
    predicted: list[str] = []
    with files.open():
        for batch in pictures.batches(BATCH, "explaining", SIDE):
            for why in explainer.explain(batch):
                files.add(why)
                for line in why.in_lines:
                    print_line(safe_text(line), sys.stdout)
                true.append(why.true)
                predicted.append(why.prediction.name)
        accuracy = said_accuracy(true, predicted)
        page = files.finish(pictures.unreadable, accuracy)
    pictures.warn()
    print("\n".join(accuracy), end="\n" if accuracy else "", flush=True)
    return page


def _facts(run: Run, phase: str, model: Classifier) -> list[str]:
    head = model.head
    return [
        f"phase {phase} of {run.folder}",
        f"{head.n_features} features, {head.features_per_class:g} of them per class",
    ]
