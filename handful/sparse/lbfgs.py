"""Limited-memory BFGS pairs whose inverse Hessian acts on a subset of the variables."""

from __future__ import annotations

import torch
from torch import Tensor


class Memory:
    """The last m steps s and gradient changes y of the smooth part, kept across a whole path.

    Memory: 16 m bytes a variable.

    Args:
        size: m.
    """

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self._steps: Tensor | None = None
        self._changes: Tensor | None = None
        self._order: list[int] = []

    def clear(self) -> None:
        """Forgets all pairs."""
        self._order = []

    def push(self, step: Tensor, change: Tensor) -> None:
        """Takes up a pair of equal shape; one without positive curvature is passed over."""
        if self._steps is None or self._changes is None:
            self._steps = step.new_zeros(self.size, *step.shape)
            self._changes = torch.zeros_like(self._steps)
        curvature = (step * change).sum().item()
        if not curvature > 1e-8 * step.norm().item() * change.norm().item():
            return
        slot = self._order.pop(0) if len(self._order) == self.size else len(self._order)
        self._steps[slot], self._changes[slot] = step, change
        self._order.append(slot)

    def widen(self) -> None:
        """Makes room for a new feature column, just before the bias."""
        if self._steps is None or self._changes is None:
            return

        def wider(pairs: Tensor) -> Tensor:
            return torch.cat([pairs[..., :-1], torch.zeros_like(pairs[..., :1]), pairs[..., -1:]], -1)

        self._steps, self._changes = wider(self._steps), wider(self._changes)

    def solve(self, vector: Tensor, inverse_diagonal: Tensor, free: Tensor) -> Tensor:
        """The inverse Hessian, restricted to the `free` variables, times `vector`; all of one shape.

        In compact form (Byrd, Nocedal & Schnabel 1994, theorem 2.2) with the inverse diagonal, scaled by the newest
        pair, as the start.
        """
        h0 = (inverse_diagonal * free).reshape(-1)
        q = (vector * free).reshape(-1)
        if not self._order or self._steps is None or self._changes is None:
            return (h0 * q).reshape_as(vector)
        # slots hold the pairs in a ring; only small m × m matrices depend on their order
        held = len(self._order)
        s = self._steps.reshape(self.size, -1)[:held]
        y = self._changes.reshape(self.size, -1)[:held] * free.reshape(-1)
        hy = y * h0
        order = torch.tensor(self._order, device=vector.device)
        sy = (s @ y.t())[order][:, order]
        diagonal = sy.diagonal()
        keep = diagonal > 1e-6 * s.norm(dim=1)[order] * y.norm(dim=1)[order]
        if not bool(keep.all()):
            order = order[keep]
            if len(order) == 0:
                return (h0 * q).reshape_as(vector)
            sy = sy[keep][:, keep]
            diagonal = sy.diagonal()
        newest = int(order[-1])
        scale = (diagonal[-1] / (y[newest] @ hy[newest]).clamp(min=1e-300)).clamp(1e-2, 1e2)
        yhy = scale * (y @ hy.t())[order][:, order]
        upper = torch.triu(sy)
        p = (s @ q)[order]
        r = scale * (hy @ q)[order]
        u = torch.linalg.solve_triangular(upper, p[:, None], upper=True)
        right = (torch.diag(diagonal) + yhy) @ u - r[:, None]
        w = torch.linalg.solve_triangular(upper.t(), right, upper=False)
        left_s, left_y = s.new_zeros(held), s.new_zeros(held)
        left_s[order], left_y[order] = w[:, 0], scale * u[:, 0]
        out = scale * h0 * q + (left_s @ s) * free.reshape(-1) - left_y @ hy
        return out.reshape_as(vector)
