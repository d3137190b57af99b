"""The folder a command writes to, tried before anything is computed."""

import tempfile
from pathlib import Path

from handful.errors import UserError


def output_folder(out: str | None, default: Path) -> Path:
    """Make the folder and see that files can be written to it.

    Args:
        out: as given to `--out`; the default where None.
        default: inside the run.

    Raises:
        UserError: a file is in the way, or nothing can be written there.
    """
    folder = default if out is None else Path(out).expanduser()
    option = "--out" if out is not None else "--run_dir"
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{option}: {folder} is a file; results are written to a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except UserError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{option}: {folder} cannot be written to ({why}); choose another place with --out") from error
    return folder
