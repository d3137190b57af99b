"""Where callbacks and profilers of a config may write: into the run's folder, and not over what a phase keeps."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import OnExceptionCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.cache import is_cache
from handful.errors import UserError
from handful.tensor_files import CHECKPOINTS
from handful.text import safe_text


def check_places(key: str, folder: Path, writers: Iterable[object]) -> None:
    """Refuse what would write, replace or remove files outside the run, or a checkpoint that a phase keeps itself.

    Lightning's `OnExceptionCheckpoint` removes the file that it is told to write, whoever has written it.

    Args:
        key: of the phase, for the sentence.
        folder: of the phase, in the run's; need not exist.
        writers: callbacks, profilers, or their specs.

    Raises:
        UserError: names the first.
    """
    for writer in writers:
        name, dirpath, filename = _place(writer)
        if dirpath is None and filename is None:
            continue
        place = Path(folder if dirpath is None else dirpath).expanduser() / (filename or "x")
        if not place.resolve().is_relative_to(folder.parent.resolve()):
            raise UserError(
                f"{key}: {name}: dirpath {dirpath or '.'} with filename {filename or 'of its own'} lies outside the "
                f"run's folder {folder.parent}; take a folder in it, such as {folder / 'extra'}"
            )
        if place.with_name(f"{place.name.removesuffix('.ckpt')}.ckpt").name in CHECKPOINTS:
            raise UserError(
                f"{key}: {name}: a phase keeps last.ckpt and best.ckpt itself, and commands look for {place.name}; "
                "take another filename"
            )


def own_cache(data: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """The description of a run's data, without a `cache_dir` that is no cache: a run's own has been filled by it.

    Nothing is written to, or swept from, a folder that only a run from elsewhere names.

    Args:
        data: class and arguments of the data module.
        config: that says so, for the warning.
    """
    arguments = data.get("init_args") or {}
    folder = arguments.get("cache_dir")
    if not folder or is_cache(str(folder)):
        return dict(data)
    rank_zero_warn(
        f"{config}: data.cache_dir {safe_text(str(folder))} is no cache of images; the usual one is used "
        "(a pipeline with --data.cache_dir makes one; XDG_CACHE_HOME says where the usual one is)"
    )
    return {**data, "init_args": {**arguments, "cache_dir": None}}


def check_removed(key: str, writers: Iterable[object]) -> None:
    """Refuse callbacks that remove, at the end of a training, a file that somebody else has written.

    Args:
        key: of the Trainer's arguments, for the sentence.
        writers: callbacks and profilers.

    Raises:
        UserError: names the first.
    """
    for writer in writers:
        if isinstance(writer, OnExceptionCheckpoint) and Path(writer.ckpt_path).exists():
            raise UserError(
                f"{key}: OnExceptionCheckpoint: would remove {writer.ckpt_path}, which is there already; take another "
                "filename"
            )


def _place(writer: object) -> tuple[str, Any, Any]:
    """Class, folder and name of the files of a callback or profiler; None for what is left to it."""
    if isinstance(writer, Mapping):
        arguments = writer.get("init_args") or {}
        name = str(writer.get("class_path", "")).rpartition(".")[2]
        return name, arguments.get("dirpath", arguments.get("exclude_batches_path")), arguments.get("filename")
    found = [getattr(writer, attribute, None) for attribute in ("dirpath", "filename")]
    found[0] = found[0] if found[0] is not None else getattr(writer, "exclude_batches_path", None)
    # a callback of one's own may call anything by these names
    dirpath, filename = (value if isinstance(value, str | Path) else None for value in found)
    return type(writer).__name__, dirpath, filename
