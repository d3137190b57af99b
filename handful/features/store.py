"""Features of all images of a data set in files, mapped into memory."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from handful.progress import ProgressBar
from handful.record_files import read_json

#: Names of the files in a store's folder.
RECORD, FEATURES, MAPS = "record.json", "features.float32", "maps.float16"

_BLOCK = 1 << 24
_verified: set[tuple[str, int, int, int]] = set()


class FeatureBatch(NamedTuple):
    """Features of some images, in the place of the images.

    Attributes:
        features: pooled, float32 `(B, F)`.
        labels: int64 `(B,)`.
        maps: float16 `(B, F, h, w)`; None where nobody looks at maps.

    Example:
        >>> FeatureBatch(torch.zeros(2, 4), torch.tensor([0, 1])).maps is None
        True
    """

    features: Tensor
    labels: Tensor
    maps: Tensor | None = None


class DamagedFeaturesError(ValueError):
    """Files of a store that are not those that were written.

    Example:
        >>> raise DamagedFeaturesError("features.float32 was cut short")
        Traceback (most recent call last):
        handful.features.store.DamagedFeaturesError: features.float32 was cut short
    """


class FeatureStore:
    """Features of N images in a folder, read where they are asked for: processes on one machine share the memory.

    Args:
        folder: what `FeatureParts.assemble` has written.

    Raises:
        DamagedFeaturesError: a file is missing, or of another size than was written; `verify` reads them whole.

    Attributes:
        features: pooled features, float32 `(N, F)`.
        maps: float16 `(N, F, h, w)`; None where none are kept.

    Example:
        >>> import tempfile
        >>> from handful.features.parts import FeatureParts
        >>> with tempfile.TemporaryDirectory() as parts, tempfile.TemporaryDirectory() as folder:
        ...     pieces = FeatureParts(Path(parts), images=2, shape=(3, 1, 1), maps=False)
        ...     pieces.write(0, torch.ones(2, 3), torch.ones(2, 3, 1, 1))
        ...     pieces.assemble(Path(folder))
        ...     FeatureStore(Path(folder)).features.sum().item()
        6.0
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files, images, (features, *grid) = _read(folder)
        self.features = self._mapped(FEATURES, np.float32, (images, features))
        self.maps = self._mapped(MAPS, np.float16, (images, features, *grid)) if MAPS in self._files else None

    def __len__(self) -> int:
        return len(self.features)

    def verify(self) -> None:
        """Read all files and compare their digests, once per process while they stay as they are.

        Raises:
            DamagedFeaturesError: names the file that was changed.
        """
        for name, expected in self._files.items():
            path = self.folder / name
            stat = path.stat()
            version = (str(path.absolute()), stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if version in _verified:
                continue
            if _digest(path) != expected:
                raise DamagedFeaturesError(f"{path} was changed since it was written")
            _verified.add(version)

    def _mapped(self, name: str, kind: type[np.floating[Any]], shape: tuple[int, ...]) -> Tensor:
        path, expected = self.folder / name, np.dtype(kind).itemsize * int(np.prod(shape))
        if not path.is_file():
            raise DamagedFeaturesError(f"{path} is missing")
        if path.stat().st_size != expected:
            raise DamagedFeaturesError(f"{path} has {path.stat().st_size:,} bytes and not {expected:,}")
        # "c": writable in memory, as torch wants it, while the file is unchanged
        return torch.from_numpy(np.memmap(path, dtype=kind, mode="c", shape=shape))


def _read(folder: Path) -> tuple[dict[str, str], int, tuple[int, int, int]]:
    """Digests by file, number of images, and shape of an image's maps."""
    path = folder / RECORD
    try:
        record = read_json(path)
        files, images, shape = dict(record["files"]), int(record["images"]), tuple(map(int, record["shape"]))
        if FEATURES not in files or len(shape) != 3 or min(images, *shape) < 1:
            raise ValueError("not a record of features")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFeaturesError(f"{path} cannot be read ({error})") from error
    return files, images, shape


def _digest(path: Path) -> str:
    digest = hashlib.blake2b()
    with (
        path.open("rb") as file,
        ProgressBar(path.stat().st_size, f"checking {path.name}", "bytes") as bar,
    ):
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
