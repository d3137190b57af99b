"""The run that a folder means: itself, the only one inside it, or the one that it is a phase of."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from handful.atomic import DRAFT
from handful.errors import UserError
from handful.record_files import MAX_CONFIG, read_text
from pipelines.run_folder import replaced_folder


def _config(folder: Path) -> dict[str, Any] | None:
    """The configuration of a run; None where the folder holds none."""
    try:
        config = yaml.safe_load(read_text(folder / "config.yaml", max_bytes=MAX_CONFIG))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):  # what it is, `Run` says when it is the one meant
        return None
    return config if isinstance(config, dict) and isinstance(config.get("phases"), dict) else None


#: Files by which a phase's folder is known, also where its records were removed to run it again.
_OF_A_PHASE = ("started.json", "done.json", "config.yaml", "last.ckpt", "best.ckpt")


def _is_phase(folder: Path) -> bool:
    return replaced_folder(folder).exists() or any((folder / name).exists() for name in _OF_A_PHASE)


def _holds_something(path: Path) -> bool:
    """Whether there is more than the draft of a record, which a killed run may have left."""
    return any(not file.name.endswith(DRAFT) for file in path.iterdir()) if path.is_dir() else path.exists()


def run_of_phase(folder: Path) -> Path | None:
    """The run that a phase's folder belongs to."""
    parent = folder.resolve().parent
    config = _config(parent)
    return parent if config is not None and folder.resolve().name in config["phases"] else None


def runs_in(folder: Path) -> list[Path]:
    """The runs one level below a folder that is none itself."""
    if not folder.is_dir() or (folder / "config.yaml").exists():
        return []
    return sorted(inner for inner in folder.iterdir() if _config(inner) is not None)


def find_run(folder: str | Path, quiet: bool = False) -> tuple[Path, str | None]:
    """The folder of the run that is meant, and the phase where a phase's folder is given.

    Args:
        folder: of a run, of a phase, or one that holds a single run.
        quiet: whether nothing is printed where a run inside the folder is meant.

    Raises:
        UserError: there is no run, or there are several.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"{folder}: there is no such folder")
    run = run_of_phase(folder)
    if run is not None:
        return run, folder.resolve().name
    if (folder / "config.yaml").is_file():
        return folder, None
    inside = runs_in(folder)
    if len(inside) == 1:
        if not quiet:
            from lightning.pytorch.utilities import rank_zero_info  # an import of seconds

            rank_zero_info(f"{folder}: the run {inside[0]} is meant")
        return inside[0], None
    if inside:
        names = ", ".join(str(path) for path in inside[:6])
        raise UserError(f"{folder}: holds {len(inside)} runs; give one of them: {names}")
    raise UserError(f"{folder}: not the folder of a run; it has no config.yaml")


def check_run_dir(folder: Path, phases: Sequence[str] = ()) -> None:
    """Refuse a folder for a run that would mix it with another one, or replace files that are none of a run.

    Args:
        folder: of the run; need not exist.
        phases: their names.

    Raises:
        UserError: it is no folder, a phase's folder, holds runs itself, or holds something else under a name that the
            run needs.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        kind = "a link to nothing" if folder.is_symlink() and not folder.exists() else "no folder"
        raise UserError(f"--run_dir {folder}: is there and is {kind}; give another one")
    run = run_of_phase(folder)
    if run is not None:
        raise UserError(f"{folder}: the folder of a phase; give its run, --run_dir {run}")
    own = [folder / name for name in phases if _is_phase(folder / name)]
    foreign = [folder / name for name in phases if folder / name not in own and _holds_something(folder / name)]
    if not own and _config(folder) is None:
        foreign += [folder / name for name in ("config.yaml", "results.json") if (folder / name).exists()]
    if foreign:
        raise UserError(
            f"{foreign[0]}: is there already and was not written by a run, which would replace it; give another "
            "--run_dir"
        )
    inside = runs_in(folder)
    if inside:
        names = ", ".join(str(path) for path in inside[:6])
        raise UserError(f"{folder}: holds runs but is not one itself; give one of them ({names}) or a new name")
