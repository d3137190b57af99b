"""Room on the disk for loggers that write in threads and processes of their own, which meet a full disk in silence."""

import errno
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

#: Bytes that must be free: more than a logger holds back before it writes; and at the end of a run.
_LEAST, AT_THE_END = 2**20, 2**16


def check_room(logger: Logger) -> None:
    """Raise what a logger's own thread or process would meet where its disk is full, before anything is handed to it.

    After its first failed write, TensorBoard's thread is gone, and W&B's process drops the rest of the run in silence.
    Where nothing is handed to them until there is room again, they keep all that comes later.

    Raises:
        OSError: there is no room where the logger writes.
    """
    folder = _folder_of(logger)
    if folder is not None:
        check_folder(folder)


def check_folder(folder: str | Path, least: int = _LEAST) -> None:
    """Raise an error of a full disk where a folder's disk has less than so many bytes.

    Raises:
        OSError: it has.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    disk = shutil.disk_usage(place)
    if disk.total and disk.free < least:  # some file systems of networks say neither
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _folder_of(logger: Logger) -> str | None:
    """Where a logger writes on this machine; None where it does not."""
    if isinstance(logger, TensorBoardLogger):
        return logger.log_dir
    if isinstance(logger, WandbLogger):
        return logger.save_dir
    if isinstance(logger, MLFlowLogger):
        uri = urlparse(str(logger._tracking_uri or ""))
        return unquote(uri.path) if uri.scheme in ("", "file") and uri.path else None
    return None
