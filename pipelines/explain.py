"""`python train.py explain`: why a run's model decides as it does about a person's own pictures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handful.attribution import Attribution, Contributions, attribute, contributions, get
from handful.errors import UserError, did_you_mean
from handful.images import Inputs, PictureBatch, Pictures
from handful.images.pictures import said_accuracy
from handful.networks import Classifier
from handful.networks.heads import MIN_STD, SparseHead
from handful.report.explain_page import Pictures as DrawnPictures
from handful.report.overlays import overlay, picture
from handful.text import safe_text
from pipelines.explain_files import ExplanationFiles
from pipelines.output_folder import output_folder
from pipelines.runs import Run

#: Side of the pictures on the page: maps are laid over the photograph, not over the few pixels the model saw.
SIDE = 224

#: Images that are explained together.
BATCH = 8

#: A feature whose part in the lead is a smaller share of the largest is not drawn.
SMALL = 0.01

#: Single changes that are told of those that would bring a tie.
CHANGES = 3


def explain(
    run_dir: str,
    images: str,
    methods: list[str] | str = "cam,integrated_gradients",
    target: str = "pred",
    stage: str | None = None,
    out: str | None = None,
    features: int = 5,
    seed: int = 0,
) -> Path:
    """Explain what a run's model says about pictures.

    Writes `index.html`, a page that needs nothing but itself (more than 100 pictures are divided over `index-2.html`
    and so on); `explain.json` with all numbers; and `maps.npz` with the raw maps, `<method>` `(N, …)`, in the order of
    the page. Pictures that cannot be read are listed and left out. Where the folder around a picture has the name of a
    class, it is taken for the true class.

    Args:
        run_dir: folder of the run.
        images: an image file, or a folder that is searched for images, nested folders included.
        methods: names of attribution methods, as a list or with commas between; "none" leaves them out.
        target: the class to explain: "pred" for each image's predicted class, or a class by name or number.
        stage: whose model: a stage or phase of the run; the last finished one if not given.
        out: folder to write to; RUN_DIR/explain if not given.
        features: how many features are shown at most.
        seed: of methods that draw random numbers.

    Returns:
        The page.

    Raises:
        UserError: no such run, stage, image, method or class; no image that can be read; no folder to write to.
    """
    chosen = _methods(methods)
    if features < 1:
        raise UserError(f"--features must be at least 1, not {features}")
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed: a whole number from 0 to 2^63 − 1, not {seed}")
    run = Run(run_dir)
    phase = run.phase_of(stage)
    model = getattr(run.load(stage), "model", None)
    if not isinstance(model, Classifier):
        raise UserError(f"--stage: {phase} of {run_dir} holds no classifier that could be explained")
    data = run.inputs()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    explainer = _Explainer(model, data, chosen, _class(target, data.class_names), features, seed)
    pictures = Pictures(Path(images).expanduser(), data)
    folder = output_folder(out, Path(run_dir) / "explain")
    title = f"Why {run.config.get('name', 'the model')} decides"
    head = {"run": run_dir, "phase": phase}
    files = ExplanationFiles(folder, title, _facts(run, phase, model), head)
    labels: list[int | None] = []
    predicted: list[int] = []
    with files.open():
        for batch in pictures.batches(BATCH, "explaining", SIDE):
            for number, (record, drawn) in enumerate(explainer.explain(batch)):
                files.add(record, drawn, {name: raw[number].numpy() for name, raw in explainer.raw.items()})
                print(safe_text(_line(record)), flush=True)
                labels.append(batch.labels[number])
                predicted.append(list(data.class_names).index(record["predicted"]["class"]))
        accuracy = said_accuracy(labels, predicted)
        said = [_said(accuracy)] if accuracy else []
        page = files.finish(pictures.unreadable, said)
    pictures.warn()
    for sentence in said:
        print(sentence, flush=True)
    return page


def _said(accuracy: Any) -> str:
    return (
        f"accuracy {accuracy['accuracy']:.1f} %, balanced {accuracy['balanced_accuracy']:.1f} %, on the "
        f"{accuracy['images']} pictures whose folder names their class"
    )


class _Explainer:
    """Explains pictures, batch by batch.

    Args:
        model: in evaluation mode.
        data: of its run, for class names, normalisation and image size.
        methods: names of attribution methods.
        target: the class explained; None for each image's predicted one.
        features: how many are drawn at most.
        seed: of methods that draw random numbers.

    Attributes:
        raw: method → raw maps `(N, …)` of the last batch.
    """

    def __init__(
        self,
        model: Classifier,
        data: Inputs,
        methods: Sequence[str],
        target: int | None,
        features: int,
        seed: int,
    ) -> None:
        self.model, self.data, self.methods = model, data, methods
        self.target, self.features, self.seed = target, features, seed
        self.raw: dict[str, Tensor] = {}

    def explain(self, batch: PictureBatch) -> list[tuple[dict[str, Any], DrawnPictures]]:
        """Return the record and the pictures of every image of a batch."""
        names = self.data.class_names
        shown = batch.shown
        assert shown is not None
        images = batch.images.to(next(self.model.parameters()).device)
        with torch.no_grad():
            logits = self.model(images).cpu().double()
        _refuse_broken(logits, batch.names)
        target = logits.argmax(dim=1) if self.target is None else torch.full((len(images),), self.target)
        parts = contributions(self.model, images, target).cpu()
        found = {name: self._attribute(name, images, target, batch.names) for name in self.methods}
        self.raw = {name: one.raw for name, one in found.items()}
        results = []
        for row, (name, file) in enumerate(zip(batch.names, batch.files, strict=True)):
            record = _outcome(name, file, logits[row], int(target[row]), names)
            label = batch.labels[row]
            if label is not None:
                record |= {"true": names[label], "correct": names[label] == record["predicted"]["class"]}
            drawn = DrawnPictures(picture(shown[row], SIDE))
            if parts is not None:
                record |= _numbers(parts, row, names, self.model)
                _draw_features(drawn, parts, row, shown[row], self.features)
            record["methods"] = {method: _told(one, row, names) for method, one in found.items()}
            for method, one in found.items():
                drawn.methods[method] = overlay(shown[row], one.map()[row], one.signed, SIDE)
            results.append((record, drawn))
        return results

    def _attribute(self, method: str, images: Tensor, target: Tensor, ids: Sequence[str]) -> Attribution:
        return attribute(
            self.model,
            images,
            target,
            method=method,
            normalisation=(self.data.mean, self.data.std),
            seed=self.seed,
            image_ids=ids,
        ).cpu()


def _refuse_broken(logits: Tensor, names: Sequence[str]) -> None:
    """Refuse logits that are no numbers, which would be taken for the first class."""
    broken = (~torch.isfinite(logits).all(dim=1)).nonzero()[:, 0].tolist()
    if broken:
        raise UserError(
            f"the logits of {len(broken)} of {len(logits)} images, {names[broken[0]]} the first, are not finite, so "
            "nothing can be explained; take the weights of an earlier phase with --stage"
        )


def _methods(methods: list[str] | str) -> list[str]:
    given = methods.split(",") if isinstance(methods, str) else methods
    named = [name.strip() for name in given if name.strip() not in ("", "none")]
    return list(dict.fromkeys(get(name).name for name in named))


def _class(target: str, names: Sequence[str]) -> int | None:
    """The class that `--target` means; None for each image's own."""
    if target == "pred":
        return None
    if target in names:
        return list(names).index(target)
    if target.isdecimal() and int(target) < len(names):
        return int(target)
    some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    near = did_you_mean(target, ["pred", *names])
    raise UserError(f"--target: no class {target!r}; give pred, 0 to {len(names) - 1} or a name: {some}{near}")


def _outcome(name: str, file: Path, logits: Tensor, explained: int, names: Sequence[str]) -> dict[str, Any]:
    """What the model says about one image."""
    probabilities = logits.softmax(dim=0)

    def tell(label: int) -> dict[str, Any]:
        return {"class": names[label], "probability": float(probabilities[label]), "logit": float(logits[label])}

    order = logits.argsort(descending=True).tolist()
    return {
        "name": name,
        "file": os.fsencode(str(file)).decode("utf-8", "backslashreplace"),
        "predicted": tell(order[0]),
        "explained": tell(explained),
        "top": [tell(label) for label in order[:3]],
    }


def _numbers(parts: Contributions, row: int, names: Sequence[str], model: Classifier) -> dict[str, Any]:
    """The explained class's logit, and its lead over the strongest other class, by feature."""
    explained, other = int(parts.classes[row]), int(parts.runner_up[row])
    probabilities = parts.logits[row].softmax(dim=0)
    outcome = {
        label: {
            "class": names[label],
            "probability": float(probabilities[label]),
            "logit": float(parts.logits[row, label]),
        }
        for label in (explained, other)
    }
    return {
        "explained": outcome[explained] | {"bias": float(parts.bias[row])},
        "contributions": [
            {
                "feature": feature,
                "value": float(parts.features[row, feature]),
                "weight": float(parts.weights[row, feature]),
                "contribution": float(parts.values[row, feature]),
            }
            for feature in parts.strongest(row).tolist()
        ],
        "runner_up": outcome[other]
        | {
            "lead": float(parts.margin[row]),
            "bias_lead": float(parts.bias[row] - parts.other_bias[row]),
            "features": [
                {"feature": feature, "lead": float(parts.lead[row, feature])}
                for feature in parts.strongest_lead(row).tolist()
            ],
            "would_tie": _changes(parts, row, model),
        },
    }


def _changes(parts: Contributions, row: int, model: Classifier) -> list[dict[str, float]]:
    """The smallest changes of one feature, in its own standard deviations where the head knows them, that would tie."""
    needed, now = parts.tie_values[row], parts.features[row]
    scale = torch.ones_like(now)
    if isinstance(model.head, SparseHead):
        scale[model.head.selection.cpu()] = model.head.std.detach().cpu().clamp(min=MIN_STD).to(scale)
    size = ((needed - now).abs() / scale).nan_to_num(nan=torch.inf)
    return [
        {"feature": feature, "value": float(now[feature]), "needed": float(needed[feature])}
        for feature in size.argsort(stable=True)[:CHANGES].tolist()
        if size[feature] < torch.inf
    ]


def _draw_features(drawn: DrawnPictures, parts: Contributions, row: int, image: Tensor, limit: int) -> None:
    for feature in parts.strongest(row, limit).tolist():
        drawn.features[feature] = overlay(image, parts.map_of(row, feature), True, SIDE)
    parting = parts.strongest_lead(row, limit)
    leads = parts.lead[row, parting].abs()
    for feature in parting[leads >= SMALL * leads.max()].tolist() if len(parting) else []:
        if feature in drawn.features and parts.other_weights[row, feature] == 0:
            drawn.repeated.append(feature)
            continue
        drawn.lead[feature] = overlay(image, parts.lead_map_of(row, feature), True, SIDE)


def _told(found: Attribution, row: int, names: Sequence[str]) -> dict[str, Any]:
    assert found.targets is not None
    told: dict[str, Any] = {
        "title": get(found.method).title,
        "target": names[int(found.targets[row])],
        "score": float(found.scores[row]),
    }
    if found.completeness is not None:
        told["completeness"] = float(found.completeness[row])
    for name, value in found.notes.items():
        told[name] = value[row].item() if isinstance(value, Tensor) else value
    return told


def _facts(run: Run, phase: str, model: Classifier) -> list[str]:
    head = model.head
    return [
        f"phase {phase} of {run.folder}",
        f"{head.n_features} features, {head.features_per_class:g} of them a class",
    ]


def _line(record: dict[str, Any]) -> str:
    """One image in one line, for the terminal."""
    predicted = record["predicted"]
    text = f"{record['name']}: {predicted['class']} ({100 * predicted['probability']:.1f} %)"
    if "true" in record:
        text += " ✓" if record["correct"] else f" ✗ {record['true']}"
    strongest = record.get("contributions", [])[:3]
    if strongest:
        explained = record["explained"]
        asked_for = explained["class"] != predicted["class"]
        text += f"; {explained['class']} ({100 * explained['probability']:.1f} %) has" if asked_for else " because of"
        text += " " + ", ".join(f"feature {p['feature']} ({p['contribution']:+.2f})" for p in strongest)
        text += f"; {'strongest other' if asked_for else 'next'} {record['runner_up']['class']}"
    return text
