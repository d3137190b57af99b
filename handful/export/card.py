"""The model card: what the model is, how good, how it decides, how to use it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from handful.errors import UserError
from handful.export.snippets import program
from handful.images.model_inputs import Inputs
from handful.images.placement import MAX_ASPECT, Framing
from handful.networks import Classifier
from handful.networks.backbone import registered_backbones
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


_SPLITS = {"train": "training", "val": "validation"}

#: Format → its file.
FILES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch_export": "model.pt2"}


def model_card(
    classifier: Classifier,
    results: Mapping[str, Any],
    name: str,
    stage: str = "",
    formats: Sequence[str] = ("safetensors",),
) -> str:
    """Return the card in Markdown, with the head that the Hub reads.

    Args:
        classifier: knows its inputs.
        results: the content of `results.json`; may be empty.
        name: of the run.
        stage: the stage that is handed on, as `results` calls it.
        formats: of the files beside the card: "safetensors", "onnx", "torch_export".

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
        "license": "unknown",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "interpretability", "sparse"],
    }
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {markdown_text(name)}", ""]
    lines += [
        f"An image classifier of {len(inputs.class_names)} classes that decides with {head.n_features} features, "
        f"{head.features_per_class:.3g} of them per class{' on average' if head.features_per_class % 1 else ''}; "
        f"backbone `{classifier.network.backbone if classifier.network else 'unknown'}`"
        + (f", stage {markdown_text(stage)}" if stage else "")
        + ". A class's score (logit) is a weighted sum of its features"
        + ("," if head.is_linear else " above their means,")
        + " each the mean of one feature map over the positions of the picture; so every decision can be taken apart "
        "into the contributions of its features.",
        "",
    ]
    lines += _stages(results, stage)
    lines += _origin(results)
    lines += _use(classifier, formats)
    lines += _limits(classifier, results)
    lines += _licence(classifier, results)
    lines += [
        "## Classes",
        "",
        "In the order of the logits: "
        + ", ".join(markdown_text(label) for label in list(inputs.class_names)[:_LISTED])
        + (f" and {len(inputs.class_names) - _LISTED} more" if len(inputs.class_names) > _LISTED else "")
        + ".",
        "",
    ]
    return "\n".join(lines)


def preprocessing(inputs: Inputs) -> str:
    """Return in words what becomes of a picture before the model gets its pixels."""
    framing = Framing.of(inputs.fit)
    kind = replace(framing, resampling="bilinear").described(inputs.image_size)
    long = f"; what is over {MAX_ASPECT} times as long as wide is cropped to its middle first"
    return (
        f"RGB, upright, transparency on white; {kind} ({framing.resampling}, antialiased, as Pillow resizes"
        f"{long if framing.kind == 'crop' else ''})"
    )


def _use(classifier: Classifier, formats: Sequence[str]) -> list[str]:
    inputs = classifier.inputs
    assert inputs is not None
    lines = [
        "## Use",
        "",
        "With Handful installed, in this folder:",
        "",
        "```python",
        "import handful",
        "",
        'model = handful.load(".")',
        'print(model.predict(["photo.jpg"]))',
        'handful.explain(model, "photo.jpg").to_html("why.html")  # the features that decided, and where they looked',
        "```",
        "",
        f"What becomes of a picture: {preprocessing(inputs)}; then normalised with mean {_numbers(inputs.mean)}, std "
        f"{_numbers(inputs.std)} of pixels in [0, 1].",
        "",
    ]
    exported = [f"`{FILES[form]}`" for form in ("onnx", "torch_export") if form in formats]
    if exported:
        side, head, several = inputs.image_size, classifier.head, len(exported) > 1
        lines += [
            f"Without Handful: {' and '.join(exported)} {'take' if several else 'takes'} uint8 pixels "
            f"`(B, 3, {side}, {side})`, any number B of pictures of this one size, with the normalisation inside; "
            f"{'they give' if several else 'it gives'} `logits` `(B, {head.num_classes})` and the pooled `features` "
            f"`(B, {head.num_features})`. Names of classes and features are in the metadata.",
            "",
        ]
    for form in ("onnx", "torch_export", "safetensors"):
        text = program(classifier, form) if form in formats else None
        if text is not None:
            lines += [f"`{FILES[form]}` alone:", "", "```python", text, "```", ""]
        elif form in formats:
            lines += [f"The network of `{FILES[form]}` is built by Handful; other programs take the other formats.", ""]
    return lines


def _limits(classifier: Classifier, results: Mapping[str, Any]) -> list[str]:
    data = results.get("data") or {}
    tested = (data.get("images") or data.get("splits") or {}).get("test")
    sentences = [
        "The model knows the classes below and no others: a picture of something else is taken for one of them.",
        "Its probabilities are a softmax of the scores and were not calibrated.",
    ]
    if tested:
        sentences.append(
            f"The measures are those of {tested:,} test images of the same data; other cameras, places and kinds of "
            "pictures may do worse."
        )
    if classifier.feature_names:
        sentences.append("Names of features are somebody's reading of them, not a guarantee.")
    return ["## Limits", "", " ".join(sentences), ""]


def _licence(classifier: Classifier, results: Mapping[str, Any]) -> list[str]:
    started = results.get("weights")
    text = (
        "None is stated: whoever publishes this model states one here and at the head of this file. It depends on that "
        f"of the images{' and of the weights that training started from' if started else ''}."
    )
    stated = _licence_of_weights(classifier) if started else None
    if stated:
        text += f" timm gives the licence `{stated}` for its published weights of this backbone."
    return ["## Licence", "", text, ""]


def _licence_of_weights(classifier: Classifier) -> str | None:
    network = classifier.network
    if network is None or network.backbone in registered_backbones():
        return None
    from handful.networks.published import published_config  # timm takes seconds to import

    try:
        found = getattr(published_config(network.backbone), "license", None)
    except UserError:
        return None
    return None if found is None else str(found)


def _stages(results: Mapping[str, Any], handed_on: str) -> list[str]:
    stages = results.get("stages") or {}
    columns = [key for key in _COLUMNS if any(isinstance(row.get(key), int | float) for row in stages.values())]
    if not columns:
        return []
    lines = ["## Measures", "", "| stage | " + " | ".join(_COLUMNS[key] for key in columns) + " |"]
    lines.append("|" + "---|" * (len(columns) + 1))
    for stage, row in stages.items():
        cells = [_cell(row.get(key), key) for key in columns]
        called = f"**{markdown_text(stage)}** (this model)" if stage == handed_on else markdown_text(stage)
        lines.append(f"| {called} | " + " | ".join(cells) + " |")
    lines += ["", "On the test images; other stages are those of the same run."]
    if "diversity@5" in columns:
        lines[-1] += (
            " diversity@5, from 0.2 to 1: how far the five features of largest weight of the predicted class look at "
            "different positions."
        )
    return [*lines, ""]


def _cell(value: Any, key: str) -> str:
    if not isinstance(value, int | float):
        return "–"
    return f"{value:.2f}" if "accuracy" in key else f"{value:g}"


def _origin(results: Mapping[str, Any]) -> list[str]:
    data, versions = results.get("data") or {}, results.get("versions") or {}
    facts = []
    if results.get("weights"):
        facts.append(f"Started from {markdown_text(str(results['weights']))}.")
    if data:
        images = data.get("images") or data.get("splits") or {}
        counts = ", ".join(f"{count:,} {markdown_text(_SPLITS.get(split, split))}" for split, count in images.items())
        facts.append(f"Data: {markdown_text(str(data.get('name', '')))}{f' ({counts} images)' if counts else ''}.")
    if versions:
        made_with = ", ".join(f"{markdown_text(name)} {markdown_text(version)}" for name, version in versions.items())
        facts.append(f"Made with {made_with}.")
    return ["## Origin", "", " ".join(facts), ""] if facts else []


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
