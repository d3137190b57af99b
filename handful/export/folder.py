"""The folder of a model that is handed on, and reading it back."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from handful.atomic import atomic, write_json, write_text
from handful.errors import UserError, did_you_mean
from handful.explain.feature_names import NAMES_FILE
from handful.export.card import FILES, model_card, preprocessing
from handful.export.deployed import Deployed
from handful.networks import Classifier
from handful.networks.description import KEY, describe
from handful.report.csv_file import write_csv

#: Format → the file that is written beside the weights.
FORMATS = FILES

#: A longer description, in characters, is none of a network: what JSON makes of it could take a gigabyte.
_LONGEST = 2**23


def export(
    classifier: Classifier,
    folder: str | Path,
    to: str = "safetensors",
    results: Mapping[str, Any] | None = None,
    name: str = "model",
    stage: str = "",
) -> Path:
    """Write a folder to hand on: weights, model card, and the model in a format of another runtime.

    Always `model.safetensors`, which `handful.load` reads, with what rebuilds the network in its head; `config.json`,
    the same to read; `README.md`, the card; `names.csv` where features have names. `onnx` adds `model.onnx`,
    `torch_export` adds `model.pt2`: both take uint8 pixels `(B, 3, S, S)`, any B, and give logits and pooled features;
    class names are in their metadata.

    Args:
        classifier: in evaluation mode, on the CPU.
        folder: is made where it is missing.
        to: "safetensors", "onnx" or "torch_export".
        results: the content of `results.json`, for the card.
        name: of the model.
        stage: which stage it is.

    Returns:
        The file of the format.

    Raises:
        UserError: an unknown format, a model that does not know its network or inputs, a package that is missing, or
            a network that the exporter cannot follow.

    Example:
        >>> import tempfile
        >>> from handful import Inputs, build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.25,) * 3)
        >>> export(model, tempfile.mkdtemp()).name
        'model.safetensors'
    """
    if to not in FORMATS:
        raise UserError(f"--to: no format {to!r}{did_you_mean(to, FORMATS)}; there are {', '.join(FORMATS)}")
    if classifier.network is None:
        raise UserError("this classifier does not know its network: build it with handful.build_classifier, or load it")
    deployed = Deployed(classifier)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    description = json.dumps(describe(classifier, classifier.network))
    state = {key: value.detach().cpu().contiguous() for key, value in classifier.state_dict().items()}
    there = _holds(folder / FORMATS["safetensors"], state, description)
    if not there:  # another model's: a folder holds one model in all of its formats
        for file in FORMATS.values():
            (folder / file).unlink(missing_ok=True)
    (folder / NAMES_FILE).unlink(missing_ok=True)
    if to == "onnx":
        _write_onnx(deployed, folder / FORMATS[to])
    elif to == "torch_export":
        _write_torch(deployed, folder / FORMATS[to])
    if not there:  # the same bytes need not be sent twice
        with atomic(folder / FORMATS["safetensors"]) as weights:
            weights.write(save(state, {KEY: description, "format": "pt"}))
    write_json(folder / "config.json", json.loads(description))
    if classifier.feature_names:
        write_csv(folder / NAMES_FILE, ["feature", "name"], sorted(classifier.feature_names.items()))
    there_now = [form for form, file in FORMATS.items() if (folder / file).is_file()]
    write_text(folder / "README.md", model_card(classifier, results or {}, name, stage, there_now))
    return folder / FORMATS[to]


def read_exported(path: Path) -> dict[str, Any] | None:
    """What a `.safetensors` file of `export` says of its classifier; None for any other file of tensors.

    Raises:
        UserError: the file is damaged.

    Example:
        >>> import tempfile
        >>> from handful import Inputs, build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.25,) * 3)
        >>> read_exported(export(model, tempfile.mkdtemp()))["inputs"]["class_names"]
        ['owl', 'wren']
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
        if text is not None and len(text) > _LONGEST:
            raise ValueError(f"its description has {len(text) / 2**20:.0f} MiB")
        return None if text is None else dict(json.loads(text))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a model written by Handful ({error})") from error


def _holds(path: Path, state: Mapping[str, torch.Tensor], description: str) -> bool:
    """Whether a file holds this very model; the order of its header differs from one writing to the next."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get(KEY) != description or set(file.keys()) != set(state):
                return False
            return all(torch.equal(file.get_tensor(name), tensor) for name, tensor in state.items())
    except (SafetensorError, OSError):
        return False


def _example(deployed: Deployed) -> torch.Tensor:
    inputs = deployed.classifier.inputs
    assert inputs is not None
    # two images: a batch of one would be taken for a constant
    return torch.zeros(2, 3, inputs.image_size, inputs.image_size, dtype=torch.uint8)


def _metadata(deployed: Deployed) -> dict[str, str]:
    inputs = deployed.classifier.inputs
    assert inputs is not None
    return {
        "class_names": json.dumps(list(inputs.class_names)),
        "image_size": str(inputs.image_size),
        "pixels": f"uint8 (B, 3, {inputs.image_size}, {inputs.image_size}); {preprocessing(inputs)}; not normalised",
        "feature_names": json.dumps(dict(deployed.classifier.feature_names)),
    }


def _program(deployed: Deployed) -> Any:
    """The exported program, of any batch size."""
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(deployed, (_example(deployed),), dynamic_shapes=({0: batch},))
    except Exception as error:  # as many kinds as there are networks that cannot be followed
        raise UserError(f"torch.export cannot follow this network ({' '.join(str(error).split())[:300]})") from error


def _write_torch(deployed: Deployed, path: Path) -> None:
    program = _program(deployed)
    with atomic(path) as file:
        torch.export.save(program, file, extra_files={"handful.json": json.dumps(_metadata(deployed))})


def _name_the_batch(graph: Any) -> None:
    """Call the images' axis `batch` wherever the exporter gave it a name of its own, `s81` for instance."""
    given = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if given and axis.dim_param == given:
                axis.dim_param = "batch"


def _write_onnx(deployed: Deployed, path: Path) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  the exporter needs it
    except ImportError as error:
        raise UserError(f"--to onnx needs the packages onnx and onnxscript: pip install {error.name}") from error
    program = _program(deployed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                program, input_names=["pixels"], output_names=["logits", "features"], dynamo=True, verbose=False
            )
    except Exception as error:
        raise UserError(f"--to onnx: not exported ({' '.join(str(error).split())[:300]})") from error
    assert exported is not None
    model = exported.model_proto
    _name_the_batch(model.graph)
    onnx.helper.set_model_props(model, _metadata(deployed))
    with atomic(path) as file:
        file.write(model.SerializeToString())
