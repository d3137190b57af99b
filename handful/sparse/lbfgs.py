"""Limited-memory BFGS pairs whose inverse Hessian acts on a subset of the variables."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Memory:
    """The last m steps s and gradient changes y of the smooth part, kept across a whole path.

    Memory: 16 m bytes per variable.

    Args:
        size: m.
    """

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self._steps: Tensor | None = None
        self._changes: Tensor | None = None
        self._order: list[int] = []
        #: by slot the product of the pair's two norms
        self._sizes: dict[int, Tensor] = {}

    def clear(self) -> None:
        """Forgets all pairs."""
        self._order = []

    def push(self, step: Tensor, change: Tensor) -> None:
        """Takes up a pair of equal shape; one without positive curvature is passed over."""
        if self._steps is None or self._changes is None:
            self._steps = step.new_zeros(self.size, *step.shape)
            self._changes = torch.zeros_like(self._steps)
        size = step.norm() * change.norm()
        if not (step * change).sum().item() > 1e-8 * size.item():
            return
        slot = self._order.pop(0) if len(self._order) == self.size else len(self._order)
        self._steps[slot], self._changes[slot] = step, change
        self._sizes[slot] = size
        self._order.append(slot)

    def widen(self) -> None:
        """Makes room for a new feature column, just before the bias."""
        if self._steps is None or self._changes is None:
            return

        def wider(pairs: Tensor) -> Tensor:
            return torch.cat([pairs[..., :-1], torch.zeros_like(pairs[..., :1]), pairs[..., -1:]], -1)

        self._steps, self._changes = wider(self._steps), wider(self._changes)

    def solve(self, vector: Tensor, start: Callable[[Tensor], Tensor], free: Tensor) -> Tensor:
        """The inverse Hessian, restricted to the `free` variables, times `vector`; all of one shape.

        The two-loop recursion (Nocedal & Wright, "Numerical Optimization", algorithm 7.4) on the free variables.

        Args:
            vector: what to multiply.
            start: the inverse Hessian without any pair, zero outside the free variables; the newest pair scales it.
            free: mask of the variables that may move.
        """
        q = vector * free
        if not self._order or self._steps is None or self._changes is None:
            return start(q)
        pairs = [(self._steps[slot], self._changes[slot] * free) for slot in self._order]
        products = torch.stack([(step * change).sum() for step, change in pairs])
        sizes = torch.stack([self._sizes[slot] for slot in self._order])
        positive = (products > 1e-6 * sizes).tolist()
        held = [(*pair, product) for pair, product, keep in zip(pairs, products, positive, strict=True) if keep]
        if not held:
            return start(q)
        shares = []
        for step, change, product in reversed(held):
            shares.append((step * q).sum() / product)
            q = q - shares[-1] * change
        _, change, product = held[-1]
        scale = (product / (change * start(change)).sum().clamp(min=1e-300)).clamp(1e-2, 1e2)
        out = scale * start(q)
        for (step, change, product), share in zip(held, reversed(shares), strict=True):
            out += (share - (change * out).sum() / product) * (step * free)
        return out
