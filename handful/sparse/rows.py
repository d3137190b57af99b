"""Raw features in chunks of rows, wherever they lie: a tensor, an array, or files mapped from disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from handful.errors import UserError

Part: TypeAlias = "Tensor | np.ndarray"
Features: TypeAlias = "Tensor | np.ndarray | Sequence[Tensor | np.ndarray | str | Path]"


class Rows:
    """The rows of a feature matrix (N, F) as chunks that never exist all at once.

    Args:
        features: a tensor or array (N, F), or a sequence of such parts, or of paths of `.npy` files, which are
            mapped from disk and read chunk by chunk.
        device: where chunks are delivered; a tensor's own device by default, else the CPU.
        chunk_elements: upper bound on the elements of one chunk (rows × F).

    Raises:
        UserError: where a part is not a real two-dimensional matrix, is empty, or the widths differ.
    """

    def __init__(
        self, features: Features, *, device: torch.device | str | None = None, chunk_elements: int = 1 << 18
    ) -> None:
        self._parts = _parts(features)
        first = self._parts[0]
        self.device = _device(first) if device is None else _available(device)
        self.n_features = int(first.shape[1])
        self.n_rows = sum(int(part.shape[0]) for part in self._parts)
        doubles = all(str(part.dtype).endswith("float64") for part in self._parts)
        #: precision of the matrix products: float64 where the features are, float32 otherwise
        self.dtype = torch.float64 if doubles else torch.float32
        self.chunk_rows = max(1, chunk_elements // max(1, self.n_features))
        for part in self._parts:
            if part.shape[1] != self.n_features:
                raise UserError(f"features: parts of different width, {self.n_features} and {part.shape[1]}")

    @property
    def in_memory(self) -> Tensor | None:
        """The whole matrix where it is one tensor of the products' precision on the device, else None."""
        part = self._parts[0]
        alone = len(self._parts) == 1 and isinstance(part, Tensor)
        if alone and part.dtype == self.dtype and part.device == self.device:
            return part
        return None

    def chunks(self, rows: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yields (index of the first row, chunk (r, F) in the products' precision on the device)."""
        rows = rows or self.chunk_rows
        start = 0
        for part in self._parts:
            for low in range(0, part.shape[0], rows):
                yield start + low, self._load(part[low : low + rows])
            start += part.shape[0]

    def longest_chunk(self, rows: int) -> int:
        """Rows of the longest of `chunks(rows)`: parts may differ in length."""
        return max(min(rows, int(part.shape[0])) for part in self._parts)

    def columns(self, index: Tensor) -> Tensor:
        """The raw columns `index` (S,) of all rows: (N, S)."""
        out = torch.empty(self.n_rows, index.numel(), dtype=self.dtype, device=self.device)
        for start, chunk in self.chunks():
            torch.index_select(chunk, 1, index.to(self.device), out=out[start : start + len(chunk)])
        return out

    def _load(self, part: Part) -> Tensor:
        if isinstance(part, np.ndarray):
            # a mapped file is read-only: copy, so that torch owns what it gets
            part = torch.from_numpy(np.array(part))
        return part.to(device=self.device, dtype=self.dtype)


def _parts(features: Features) -> list[Part]:
    if isinstance(features, Tensor | np.ndarray | str | Path):
        given: list[Any] = [features]
    elif isinstance(features, Sequence):
        given = list(features)
    else:
        raise UserError(f"features: expected a matrix, or .npy files, not {type(features).__name__}")
    parts = [_open(part) for part in given]
    parts = [part for part in parts if not (part.ndim == 2 and part.shape[0] == 0)] or parts[:1]
    if not parts:
        raise UserError("features: no rows")
    for part in parts:
        if part.ndim != 2:
            raise UserError(f"features: expected a matrix (rows, features), got shape {tuple(part.shape)}")
        if "float" not in str(part.dtype):
            raise UserError(f"features: expected floating point numbers, got {part.dtype}")
    return parts


def _open(part: Any) -> Part:
    if isinstance(part, Tensor):
        if part.layout != torch.strided:
            raise UserError(f"features: expected a dense matrix, got {part.layout}; take features.to_dense()")
        return part.detach()
    if isinstance(part, np.ndarray):
        return part
    if not isinstance(part, str | Path):
        raise UserError(f"features: expected matrices or .npy files, not {type(part).__name__}; take numpy.asarray")
    try:
        return np.load(part, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"features: cannot read {part} as a .npy matrix ({error})") from error


def _available(device: torch.device | str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device: {device} is not there ({str(error).splitlines()[0]})") from error


def _device(part: Part) -> torch.device:
    return part.device if isinstance(part, Tensor) else torch.device("cpu")
