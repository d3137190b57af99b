"""A trained classifier read back from disk: from a run, a phase's folder, a checkpoint or a saved model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from handful.atomic import atomic
from handful.errors import UserError, did_you_mean
from handful.explain.feature_names import read_feature_names
from handful.export.folder import read_exported
from handful.images.model_inputs import Inputs
from handful.networks.classifier import Classifier
from handful.networks.description import KEY, describe, description_of, rebuild
from handful.networks.restored import restored
from handful.record_files import MAX_CONFIG, read_json, read_text
from handful.tensor_files import CHECKPOINTS, read_tensors

#: What a Lightning checkpoint puts before the names of a classifier's tensors.
_PREFIX = "model."


def load(path: str | Path, phase: str | None = None) -> Classifier:
    """Read a trained classifier, on the CPU and in evaluation mode; neither Lightning nor a pickle is needed.

    Args:
        path: the folder of a run, of which the last finished classifier is taken; the folder of a phase; a checkpoint;
            or what `save` wrote.
        phase: of the run, by its name, where another than the last is wanted.

    Returns:
        The classifier; its `inputs` are the class names, the image size and the normalisation of its training.

    Raises:
        UserError: nothing is there, no phase is finished, or a file is damaged, changed or something else.

    Example:
        >>> import tempfile
        >>> from handful import build_classifier
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2), f"{folder}/model.ckpt")
        ...     load(f"{folder}/model.ckpt").num_classes
        2
    """
    path = Path(path)
    if path.is_dir():
        path = _checkpoint_in(path, phase)
    elif phase is not None:
        raise UserError(f"{path}: a phase can be chosen in the folder of a run only")
    classifier = read_classifier(path)
    named = (read_feature_names(folder, classifier.num_features) for folder in (path.parent, path.parent.parent))
    classifier.feature_names = next(filter(None, named), {})
    if classifier.inputs is None:
        classifier.inputs = _recorded_inputs(path, classifier.num_classes)
    return classifier


def save(classifier: Classifier, path: str | Path) -> None:
    """Write a classifier as one file of tensors and plain values, which `load` reads back.

    Raises:
        UserError: the classifier does not know what its backbone was built from.

    Example:
        >>> import tempfile
        >>> from handful import build_classifier
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2), f"{folder}/model.ckpt")
        ...     load(folder).num_features
        4
    """
    if classifier.network is None:
        raise UserError("this classifier does not know its network: build it with handful.build_classifier, or load it")
    state = {_PREFIX + name: value for name, value in classifier.state_dict().items()}
    with atomic(Path(path)) as file:
        torch.save({KEY: describe(classifier, classifier.network), "state_dict": state}, file)


def read_classifier(path: Path) -> Classifier:
    """The classifier of one checkpoint file.

    Raises:
        UserError: the file is missing, damaged, or holds no classifier.
    """
    checkpoint = read_tensors(path)
    if path.suffix == ".safetensors":
        checkpoint = _of_export(path, checkpoint)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise UserError(f"{path}: not a checkpoint written by Handful")
    state = {
        str(name).removeprefix(_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if str(name).startswith(_PREFIX)
    }
    try:
        return restored(lambda: rebuild(description_of(checkpoint)), state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _of_export(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of an exported model as a checkpoint has them."""
    description = read_exported(path)
    if description is None:
        raise UserError(f"{path}: weights alone, without the network that they belong to; not written by Handful")
    return {KEY: description, "state_dict": {_PREFIX + name: value for name, value in state.items()}}


def _checkpoint_in(folder: Path, phase: str | None) -> Path:
    own = next((folder / name for name in CHECKPOINTS if (folder / name).is_file()), None)
    if own is not None and phase is None:
        return own
    finished = {name: file for name in _phases(folder) if (file := folder / name / CHECKPOINTS[0]).is_file()}
    if phase is not None:
        if phase not in finished:
            known = ", ".join(finished) or "none"
            near = did_you_mean(phase, finished)
            raise UserError(f"{folder}: no finished phase {phase!r} with a checkpoint{near}; there are {known}")
        return finished[phase]
    for file in reversed(finished.values()):
        if _holds_classifier(file):
            return file
    raise UserError(f"{folder}: no finished phase of a run, and no checkpoint, that holds a classifier")


def _phases(folder: Path) -> list[str]:
    """The finished phases of a run, in its order."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder}: neither the folder of a run, of a phase, nor of a saved model")
    try:
        config = yaml.safe_load(read_text(path, max_bytes=MAX_CONFIG))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of tags, the constructors' own
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    phases = config.get("phases") if isinstance(config, Mapping) else None
    if not isinstance(phases, Mapping):
        raise UserError(f"{path}: not the configuration of a run; it has no phases")
    return [str(name) for name in phases if (folder / str(name) / "done.json").is_file()]


def _holds_classifier(file: Path) -> bool:
    checkpoint = read_tensors(file, mmap=True)
    try:
        description_of(checkpoint)
    except UserError:
        return False
    return True


def _recorded_inputs(checkpoint: Path, num_classes: int) -> Inputs | None:
    """What the images of a run are like, by the results that stand beside or above an earlier checkpoint."""
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        data = _json(folder / "results.json").get("data")
        if isinstance(data, Mapping) and {"class_names", "image_size", "mean", "std"} <= set(data):
            inputs = Inputs.from_record(data, str(folder / "results.json"))
            if len(inputs.class_names) != num_classes:
                raise UserError(
                    f"{folder / 'results.json'}: names {len(inputs.class_names)} classes, but {checkpoint} has "
                    f"{num_classes}"
                )
            return inputs
    return None


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    return content if isinstance(content, Mapping) else {}
