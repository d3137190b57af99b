"""Features computed chunk by chunk, by any number of processes, and resumed where a process was killed."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from handful.atomic import atomic
from handful.features.store import FEATURES, MAPS, RECORD

#: Images in a chunk, which the backbone sees as one batch. The last bits of features depend on the batch, and so the
#: chunks are the same for one process and for many.
CHUNK = 32

_LARGEST = torch.finfo(torch.float16).max


def chunks(images: int) -> list[range]:
    """The dataset indices of every chunk of a data set.

    Example:
        >>> chunks(70)
        [range(0, 32), range(32, 64), range(64, 70)]
    """
    return [range(start, min(start + CHUNK, images)) for start in range(0, images, CHUNK)]


class FeatureParts:
    """The chunks of a data set that are computed already, a file each, in a folder.

    Args:
        folder: of the files; exists.
        images: N.
        shape: of an image's maps, `(F, h, w)`.
        maps: whether maps are kept beside the pooled features.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = FeatureParts(Path(folder), images=40, shape=(3, 2, 2), maps=False)
        ...     parts.write(1, torch.zeros(8, 3), torch.zeros(8, 3, 2, 2))
        ...     parts.missing()
        [0]
    """

    def __init__(self, folder: Path, images: int, shape: tuple[int, int, int], maps: bool) -> None:
        self.folder, self.images, self.shape, self.maps = folder, images, shape, maps

    @property
    def bytes(self) -> int:
        """Size of the finished store; parts and store together take twice as much for a moment."""
        features, height, width = self.shape
        return self.images * features * (4 + (2 * height * width if self.maps else 0))

    def missing(self) -> list[int]:
        """The numbers of the chunks that are still to be computed; a damaged file counts as none."""
        return [number for number in range(len(chunks(self.images))) if self._read(number) is None]

    def write(self, number: int, features: Tensor, maps: Tensor) -> None:
        """Keep a chunk: its pooled features `(B, F)` and, where they are wanted, its maps `(B, F, h, w)`.

        Raises:
            OSError: the file cannot be written; names it.
        """
        content = {"features": features.float().cpu().contiguous()}
        if self.maps:  # what half precision cannot hold becomes the largest number that it can
            content["maps"] = maps.clamp(-_LARGEST, _LARGEST).half().cpu().contiguous()
        with atomic(self._path(number)) as file:
            file.write(save(content))

    def assemble(self, folder: Path) -> None:
        """Write all chunks, in the order of the data set, as the files of a `FeatureStore`.

        Args:
            folder: empty.

        Raises:
            OSError: a file cannot be written.
            FileNotFoundError: a chunk is missing.
        """
        names = {"features": FEATURES, **({"maps": MAPS} if self.maps else {})}
        digests = {}
        for kind, name in names.items():
            digest = hashlib.blake2b()
            with (folder / name).open("wb") as file:
                for content in self._all(kind):
                    digest.update(content)
                    file.write(content)
            digests[name] = digest.hexdigest()
        record = {"images": self.images, "shape": list(self.shape), "files": digests}
        (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")

    def _all(self, kind: str) -> Iterator[memoryview]:
        for number in range(len(chunks(self.images))):
            part = self._read(number)
            if part is None:
                raise FileNotFoundError(f"{self._path(number)}: no such features")
            yield part[kind].numpy().data.cast("B")

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{'-maps' if self.maps else ''}.safetensors"

    def _read(self, number: int) -> dict[str, Tensor] | None:
        """A chunk; None where there is none that is whole."""
        try:
            part = load_file(self._path(number))
        except (OSError, SafetensorError):
            return None
        count = len(chunks(self.images)[number])
        expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "features": (torch.float32, (count, self.shape[0]))
        }
        if self.maps:
            expected["maps"] = (torch.float16, (count, *self.shape))
        found = {name: (value.dtype, tuple(value.shape)) for name, value in part.items()}
        return part if found == expected else None
