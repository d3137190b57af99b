"""The folder a command writes to, tried before anything is computed."""

import tempfile
from pathlib import Path

from handful.errors import UserError


def output_folder(out: str | None, default: Path) -> Path:
    """See that a folder can be made and written to; nothing is left behind.

    Args:
        out: as given to `--out`; the default where None.
        default: inside the run.

    Returns:
        The folder, which may not exist yet.

    Raises:
        UserError: a file is in the way, or nothing can be written there.
    """
    folder = default if out is None else Path(out).expanduser()
    if out is None:
        check_inside(folder)
    option = "--run_dir" if out is None else "--out"
    made: list[Path] = []
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{option}: {folder} is a file; results are written to a folder")
        for path in (*reversed(folder.parents), folder):
            if not path.is_dir():
                path.mkdir()
                made.append(path)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except UserError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{option}: {folder} cannot be written to ({why}); choose another place with --out") from error
    finally:
        for path in reversed(made):
            path.rmdir()
    return folder


def check_inside(folder: Path) -> None:
    """Refuse a folder of a run that is a link to somewhere else: what is written into it would land there.

    Args:
        folder: in the run's; need not exist.

    Raises:
        UserError: it is such a link.
    """
    leads = folder.is_symlink() and (folder.is_dir() or not folder.exists())
    if leads and not folder.resolve().is_relative_to(folder.parent.resolve()):
        raise UserError(
            f"{folder}: a link that leads out of the run, to {folder.resolve()}; remove it, or give --out where there "
            "is one"
        )
