"""The measure that a phase watches must be one that its training logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl

from handful.errors import UserError, did_you_mean
from lightning_modules import TrainedModule
from pipelines.config import PhaseConfig

#: What only validation images can tell.
OF_VALIDATION = ("val/", "filters/noise_on_")


@dataclass(frozen=True)
class Watched:
    """What is watched and depends on whether there are validation images: options with their measures, in words.

    Attributes:
        needs_validation: what cannot do without them.
        stands_in: what is measured of training images where there are none.
    """

    needs_validation: list[str]
    stands_in: list[str]


def check_monitors(
    key: str, phase: PhaseConfig, module: TrainedModule, callbacks: Sequence[pl.Callback]
) -> Watched:
    """Refuse a measure that is never logged, where the module and the callbacks say what they log.

    Args:
        key: of the phase in the config.
        phase: whose `monitor` chooses `best.ckpt`.
        module: that is trained.
        callbacks: of the phase; `EarlyStopping` and others watch measures of their own.

    Raises:
        UserError: names the option, and the nearest measure.
    """
    watched = {f"{key}.monitor": phase.monitor}
    for callback in callbacks:
        own: Any = getattr(callback, "monitor", None)
        if isinstance(own, str):
            watched[f"{key}.callbacks: {type(callback).__name__}.monitor"] = own
    schedule = (phase.module.get("init_args") or {}).get("lr_scheduler")
    own = (schedule.get("init_args") or {}).get("monitor") if isinstance(schedule, Mapping) else None
    if isinstance(own, str):
        watched[f"{key}.module.lr_scheduler.monitor"] = own
    known = _logged(module, callbacks)
    counters = ("step", "epoch")  # which a ModelCheckpoint may watch as well
    for option, measure in watched.items():
        if option.endswith("Checkpoint.monitor") and measure in counters:
            continue
        if known is not None and measure not in known:
            listed = ", ".join(sorted(known))
            raise UserError(
                f"{option}: {measure!r} is not logged when {type(module).__name__} is trained"
                f"{_nearest(measure, known)}; available: {listed}"
            )
    needs = [
        f"{option}: watches {measure}"
        for option, measure in watched.items()
        if measure.startswith(OF_VALIDATION) and option != f"{key}.monitor"
    ]
    standing_in = {measure for callback in callbacks for measure in getattr(callback, "stand_ins", ())}
    found = [f"{option}: watches {measure}" for option, measure in watched.items() if measure in standing_in]
    return Watched(needs, found)


def _logged(module: TrainedModule, callbacks: Sequence[pl.Callback]) -> set[str] | None:
    """All measures that are logged in training; None where somebody does not say which."""
    found: set[str] = set()
    for source in (module, *callbacks):
        measures: Any = getattr(source, "measures", None)
        if measures is None and type(source).__module__.partition(".")[0] not in ("lightning", "callbacks"):
            return None
        found |= set(measures or ())
    return found


def _nearest(measure: str, known: set[str]) -> str:
    """The known measure that is probably meant; `accuracy` means that of validation."""
    if f"val/{measure}" in known:
        return f"; did you mean 'val/{measure}'?"
    return did_you_mean(measure, sorted(known))
