"""Whether a checkpoint holds all that a training resumes from; Lightning does without much of it in silence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from handful.errors import UserError
from handful.tensor_files import read_tensors

_REMEDY = "remove it to run the phase from its beginning"
#: What must be there, and of which kind.
_KINDS = {
    "state_dict": Mapping, "callbacks": Mapping, "optimizer_states": list, "lr_schedulers": list, "loops": Mapping,
    "global_step": int, "pytorch-lightning_version": str,
}  # fmt: skip
_VERSION = "pytorch-lightning_version"
#: The loop of a training, and what it cannot go on without.
_LOOP, _COUNTED = "fit_loop", ("epoch_progress", "epoch_loop.batch_progress")


def step_of(checkpoint: Path) -> int:
    """The step at which a training was stopped.

    Args:
        checkpoint: `last.ckpt`, which is read.

    Raises:
        UserError: it cannot be read, or lacks what a training resumes from.
    """
    try:
        content = read_tensors(checkpoint)
    except UserError as error:
        said = error.__cause__ is None  # what is wrong with it, in words
        what = error if said else f"{checkpoint}: cannot be read ({type(error.__cause__).__name__})"
        raise UserError(f"{what}; {_REMEDY}") from error
    if (wrong := _wrong(content)) is not None:
        raise UserError(f"{checkpoint}: cannot be resumed from ({wrong}); {_REMEDY}")
    return int(content["global_step"])


def cannot_be_resumed(checkpoint: Path, error: Exception) -> UserError:
    """The sentence for what a Trainer has met in a checkpoint."""
    what = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
    return UserError(f"{checkpoint}: cannot be resumed from ({what}); {_REMEDY}")


def check_progress(found: Any, expected: Mapping[str, Any], place: str = _LOOP) -> None:
    """Refuse the state of a loop whose counts are missing or no counts.

    Args:
        found: of a checkpoint.
        expected: the state of a loop that has not begun.
        place: of the state, for the sentence.

    Raises:
        ValueError: with the first that is.
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"{place} is {type(found).__name__}")
    for name, value in expected.items():
        if name not in found and place == _LOOP and name not in _COUNTED:
            continue  # an earlier version of Lightning did not have it
        if name not in found:
            raise ValueError(f"{place}.{name} is missing")
        if isinstance(value, Mapping):
            check_progress(found[name], value, f"{place}.{name}")
        elif isinstance(value, int) and (not isinstance(found[name], int) or found[name] < 0):
            raise ValueError(f"{place}.{name} is {found[name]!r:.40}")


def _wrong(content: Any) -> str | None:
    """The first entry that a training cannot be resumed from."""
    if not isinstance(content, Mapping):
        return f"it holds {type(content).__name__}"
    for name, kind in _KINDS.items():
        if name not in content:
            return f"{name} is missing"
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            return f"{name} is {type(content[name]).__name__}"
    if content["global_step"] < 0:
        return f"global_step is {content['global_step']}"
    if not all(isinstance(state, Mapping) for state in content["optimizer_states"]):
        return "optimizer_states are of another kind"
    try:
        Version(content[_VERSION])
    except InvalidVersion:
        return f"{_VERSION} is {content[_VERSION]!r:.40}"
    return None
