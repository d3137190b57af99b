"""The model card: what the model is, how good, how it decides, how to use it."""

from collections.abc import Mapping
from typing import Any

import yaml

from handful.images.placement import Framing
from handful.networks import Classifier
from handful.text import markdown_text

#: Classes that are listed by name.
_LISTED = 200

#: Measures of a stage in the table.
_COLUMNS = {
    "accuracy": "accuracy, %",
    "balanced_accuracy": "balanced accuracy, %",
    "n_features": "features",
    "features_per_class": "features per class",
    "diversity@5": "diversity@5",
}


def model_card(classifier: Classifier, results: Mapping[str, Any], name: str, stage: str = "") -> str:
    """Return the card in Markdown, with the head that the Hub reads.

    Args:
        classifier: knows its inputs.
        results: the content of `results.json`; may be empty.
        name: of the run.
        stage: the stage or phase that is handed on.

    Example:
        >>> from handful import Inputs, build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.25,) * 3)
        >>> "2 classes that decides with 4 features" in model_card(model, {}, "owls")
        True
    """
    inputs, head = classifier.inputs, classifier.head
    assert inputs is not None
    front = {
        "library_name": "handful",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "interpretability", "sparse"],
    }
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {markdown_text(name)}", ""]
    lines += [
        f"An image classifier of {len(inputs.class_names)} classes that decides with {head.n_features} features, "
        f"{head.features_per_class:.3g} of them per class; backbone "
        f"`{classifier.network.backbone if classifier.network else 'unknown'}`"
        + (f", stage {markdown_text(stage)}" if stage else "")
        + ".",
        "",
    ]
    lines += _stages(results)
    lines += _origin(results)
    lines += [
        "## Use",
        "",
        "```python",
        "import handful",
        "",
        'model = handful.load("path/of/this/folder")',
        'print(model.predict(["photo.jpg"]))',
        'handful.explain(model, "photo.jpg").to_html("why.html")  # the features that decided, and where they looked',
        "```",
        "",
        f"Input: RGB, {Framing.of(inputs.fit).described(inputs.image_size)}; normalisation (mean "
        f"{_numbers(inputs.mean)}, std {_numbers(inputs.std)} of pixels in [0, 1]) is part of `model.onnx` and "
        "`model.pt2`, which take uint8 pixels `(B, 3, S, S)` and give `logits` and `features`.",
        "",
        "## Limits",
        "",
        "Probabilities are a softmax over the classes below and are not calibrated for anything else; a picture of "
        "none of them gets one of them. Accuracies are those of the test images named above.",
        "",
        "## Classes",
        "",
        ", ".join(markdown_text(label) for label in list(inputs.class_names)[:_LISTED])
        + (f" and {len(inputs.class_names) - _LISTED} more" if len(inputs.class_names) > _LISTED else ""),
        "",
    ]
    return "\n".join(lines)


def _stages(results: Mapping[str, Any]) -> list[str]:
    stages = results.get("stages") or {}
    columns = [key for key in _COLUMNS if any(isinstance(row.get(key), int | float) for row in stages.values())]
    if not columns:
        return []
    lines = ["## Measures", "", "| stage | " + " | ".join(_COLUMNS[key] for key in columns) + " |"]
    lines.append("|" + "---|" * (len(columns) + 1))
    for stage, row in stages.items():
        cells = [f"{row[key]:g}" if isinstance(row.get(key), int | float) else "–" for key in columns]
        lines.append(f"| {markdown_text(stage)} | " + " | ".join(cells) + " |")
    return [*lines, "", "On the test images.", ""]


def _origin(results: Mapping[str, Any]) -> list[str]:
    data, versions = results.get("data") or {}, results.get("versions") or {}
    facts = []
    if results.get("weights"):
        facts.append(f"Started from {markdown_text(str(results['weights']))}.")
    if data:
        images = data.get("images") or data.get("splits") or {}
        counts = ", ".join(f"{count} {split}" for split, count in images.items())
        facts.append(f"Data: {markdown_text(str(data.get('name', '')))}{f' ({counts} images)' if counts else ''}.")
    if versions:
        facts.append("Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return ["## Origin", "", " ".join(facts), ""] if facts else []


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
