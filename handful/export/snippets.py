"""Programs of a model card: how the files of a model are used without Handful."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from handful.attribution.state import undisturbed
from handful.images.model_inputs import Inputs
from handful.images.placement import Framing
from handful.networks import Classifier
from handful.networks.backbone import registered_backbones
from handful.networks.heads import MIN_STD
from handful.networks.layouts import output_layout

_PILLOW = "from PIL import Image, ImageOps"

#: Format → what its program imports.
_IMPORTS = {
    "onnx": ["import numpy as np", "import onnxruntime", _PILLOW],
    "torch_export": ["import numpy as np", "import torch", _PILLOW],
    "safetensors": ["import numpy as np", "import timm", "import torch", _PILLOW, "from safetensors import safe_open"],
}


def program(classifier: Classifier, form: str) -> str | None:
    """A program that classifies `photo.jpg` with the file of a format, Handful not being installed.

    It leaves `names`, `logits (1, C)` and `features (1, F)`.

    Args:
        classifier: knows its inputs.
        form: "safetensors", "onnx" or "torch_export".

    Returns:
        Its text; None for weights whose network other packages cannot build.

    Example:
        >>> from handful import build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.25,) * 3)
        >>> program(model, "onnx").splitlines()[-1], program(model, "safetensors")
        ('print(names[int(logits[0].argmax())])', None)
    """
    inputs = classifier.inputs
    assert inputs is not None
    body = _BODIES[form](classifier)
    if body is None:
        return None
    lines = ["import json", "", *_IMPORTS[form], "", "", *_pixels(inputs), "", "", *body]
    return "\n".join([*lines, "print(names[int(logits[0].argmax())])"])


def _pixels(inputs: Inputs) -> list[str]:
    """From a file to uint8 pixels, as `handful.images` does: 8 bits, less long than `MAX_ASPECT` times its width."""
    side, framing = inputs.image_size, Framing.of(inputs.fit)
    resized, how = framing.resized_side(side), f"Image.Resampling.{framing.resampling.upper()}"
    lines = [
        f"def pixels(path, side={side}, resized={resized}):",
        '    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")',
        '    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")',
    ]
    if framing.kind == "squash":
        lines.append(f"    picture = picture.resize((resized, resized), {how})")
    else:
        edge, rule = ("longer", "max") if framing.kind == "pad" else ("shorter", "min")
        scaled = "max(1, round({0} * resized / {1}))" if framing.kind == "pad" else "max(resized, {0} * resized // {1})"
        sizes = ", ".join(scaled.format(f"picture.{one}", edge) for one in ("width", "height"))
        lines += [
            f"    {edge} = {rule}(picture.size)",
            f"    size = {sizes}",
            f"    picture = picture.resize(size, {how})",
        ]
    if framing.kind == "pad":
        lines += [
            "    square = Image.new(\"RGB\", (side, side))",
            "    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))",
            "    return np.asarray(square).transpose(2, 0, 1)[None].copy()",
        ]  # fmt: skip
    else:
        lines += [
            "    left, top = round((picture.width - side) / 2), round((picture.height - side) / 2)",
            "    square = picture.crop((left, top, left + side, top + side))",
            "    return np.asarray(square).transpose(2, 0, 1)[None].copy()",
        ]
    return lines


def _onnx(classifier: Classifier) -> list[str]:
    return [
        'session = onnxruntime.InferenceSession("model.onnx")',
        'names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])',
        'logits, features = session.run(["logits", "features"], {"pixels": pixels("photo.jpg")})',
    ]


def _torch_export(classifier: Classifier) -> list[str]:
    return [
        'said = {"handful.json": ""}',
        'model = torch.export.load("model.pt2", extra_files=said).module()',
        'names = json.loads(json.loads(said["handful.json"])["class_names"])',
        "with torch.no_grad():",
        '    logits, features = model(torch.from_numpy(pixels("photo.jpg")))',
    ]


def _safetensors(classifier: Classifier) -> list[str] | None:
    inputs, network, head = classifier.inputs, classifier.network, _head(classifier)
    assert inputs is not None
    if network is None or network.reduced_strides or head is None or network.backbone in registered_backbones():
        return None
    from handful.networks.timm_backbone import TimmBackbone  # timm takes seconds to import

    if not isinstance(classifier.backbone, TimmBackbone):  # an adapter stands behind it
        return None
    axes = _spatial_axes(classifier.backbone.net, inputs.image_size)
    if axes is None:
        return None
    options = "".join(f", {name}={value!r}" for name, value in classifier.backbone.options.items())
    return [
        'with safe_open("model.safetensors", "pt") as file:',
        "    state = {name: file.get_tensor(name) for name in file.keys()}",
        '    names = json.loads(file.metadata()["handful_classifier"])["inputs"]["class_names"]',
        f'network = timm.create_model("{network.backbone}", num_classes=0{options}).eval()',
        'inner = "backbone.net."',
        "own = {name[len(inner) :]: value for name, value in state.items() if name.startswith(inner)}",
        "network.load_state_dict(own)",
        f"mean, std = (torch.tensor(values).view(3, 1, 1) for values in ({_exact(inputs.mean)}, {_exact(inputs.std)}))",
        'image = (torch.from_numpy(pixels("photo.jpg")) / 255 - mean) / std',
        "with torch.no_grad():",
        f"    features = network.forward_features(image).mean(dim={axes})",
        *head,
    ]


def _head(classifier: Classifier) -> list[str] | None:
    """From features to logits by the tensors of the file; None for heads that say nothing here."""
    kind = classifier.head.kind
    if kind == "dense":
        return ['logits = features @ state["head.linear.weight"].T + state["head.linear.bias"]']
    if kind not in ("sparse", "ternary", "binary"):
        return None
    cut = ".relu()" if getattr(classifier.head, "relu", False) else ""
    return [
        'few = features[:, state["head.selection"]]  # the features that decide',
        f'few = ((few - state["head.mean"]) / state["head.std"].clamp(min={MIN_STD})){cut}',
        'logits = few @ state["head.weight"].T + state["head.bias"]  # (classes, features that decide)',
    ]


def _spatial_axes(network: Any, size: int) -> tuple[int, int] | None:
    """Axes of the positions in what a network of timm gives; None for tokens. The network stays as it is."""
    parameter = next(network.parameters())
    with undisturbed(network), torch.no_grad():
        output = network.forward_features(torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device))
    layout = output_layout(output, (size, size), network)
    return {"NCHW": (2, 3), "NHWC": (1, 2)}.get(layout.kind) if layout is not None else None


def _exact(values: Sequence[float]) -> str:
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"


_BODIES: dict[str, Callable[[Classifier], list[str] | None]] = {
    "onnx": _onnx,
    "torch_export": _torch_export,
    "safetensors": _safetensors,
}
