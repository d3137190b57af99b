"""An `.npz` that is written piece by piece, for arrays larger than memory."""

import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy


class GrowingArrays:
    """Arrays by name that grow along their first axis, kept on disk until they are zipped.

    Args:
        folder: for the drafts; the caller removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._kinds: dict[str, np.dtype[np.generic]] = {}

    def append(self, name: str, values: np.ndarray) -> None:
        """Append `(n, …)` to the array of that name.

        Raises:
            ValueError: another shape or type than before.
        """
        if name not in self._files:
            self._files[name] = (self._folder / f"{len(self._files)}.values").open("wb+")
            self._shapes[name], self._kinds[name] = (0, *values.shape[1:]), values.dtype
        if values.shape[1:] != self._shapes[name][1:] or values.dtype != self._kinds[name]:
            raise ValueError(f"{name}: {values.dtype} {values.shape} appended to {self._shapes[name]}")
        self._files[name].write(np.ascontiguousarray(values).tobytes())
        self._shapes[name] = (self._shapes[name][0] + len(values), *values.shape[1:])

    def write(self, path: Path) -> None:
        """Write all arrays as `np.load` reads them."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, values in self._files.items():
                header = {"descr": npy.dtype_to_descr(self._kinds[name]), "fortran_order": False,
                          "shape": self._shapes[name]}  # fmt: skip
                values.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    npy.write_array_header_1_0(file, header)
                    shutil.copyfileobj(values, file, 2**20)
        self.close()

    def close(self) -> None:
        """Close the drafts."""
        for file in self._files.values():
            file.close()
