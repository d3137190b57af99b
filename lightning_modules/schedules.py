"""Optimizers and learning-rate schedules: what a schedule watches, and whether it steps by epochs or by batches."""

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import LBFGS, Optimizer, SparseAdam
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CyclicLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from handful.errors import UserError
from lightning_modules.trainer_data import TrainerData

Interval = Literal["epoch", "step"]

#: What a plateau is looked for in where no checkpoint is chosen by a measure.
MONITOR = "val/accuracy"


class WarmupThen(SequentialLR):
    """Several schedules one after another, such as a warm-up and then a decay.

    Args:
        optimizer: whose learning rate is scheduled.
        schedulers: factories of the schedules, in order.
        milestones: the epochs (or steps) at which the next one begins; one fewer than schedules.

    Raises:
        ValueError: the numbers of schedules and milestones do not fit.
    """

    def __init__(self, optimizer: Optimizer, schedulers: list[LRSchedulerCallable], milestones: list[int]) -> None:
        built: list[Any] = [factory(optimizer) for factory in schedulers]
        super().__init__(optimizer, built, milestones)


class WarmupCosine(LRScheduler):
    """A linear warm-up, then half a cosine down to zero, over the whole training by batches.

    The peak is the optimizer's own learning rate, of every group of parameters.

    Args:
        optimizer: whose learning rate is scheduled.
        total_steps: of the training; set to the length of the training where it is not given.
        warmup: share of the steps that the warm-up takes, in [0, 1).

    Raises:
        ValueError: `total_steps` is not given and no Trainer provides it, or a value is out of range.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None, warmup: float = 0.1) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup: a share in [0, 1), not {warmup}")
        if total_steps is None:
            raise ValueError("total_steps is not given")
        if total_steps < 1:
            raise ValueError(f"the number of steps (total_steps) must be at least 1, not {total_steps}")
        self.total_steps, self.warmup = total_steps, warmup
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of every group of parameters."""
        return [rate * self._factor(self.last_epoch) for rate in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where a checkpoint has stopped.

        Raises:
            UserError: the training had another number of steps when it began.
        """
        began = state_dict.get("total_steps")
        if began != self.total_steps:
            raise UserError(
                f"lr_scheduler: this training began with {began} steps and has {self.total_steps} now; resume it with "
                "as many devices, as large a batch and as many epochs, or start it again"
            )
        super().load_state_dict(state_dict)

    def _factor(self, step: int) -> float:
        rising = self.warmup * self.total_steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - rising) / (self.total_steps - rising)))


def follows_length(spec: Mapping[str, Any] | None) -> bool:
    """Whether a schedule of a config gets its length from the training."""
    if not spec:
        return False
    name = str(spec.get("class_path", "")).rpartition(".")[2]
    arguments = spec.get("init_args") or {}
    given = arguments.get("total_steps") is not None or arguments.get("epochs") is not None
    return name in (OneCycleLR.__name__, WarmupCosine.__name__) and not given


def better(monitor: str) -> Literal["min", "max"]:
    """Whether a smaller or a larger value of a measure is better: larger unless its name ends in loss."""
    return "min" if monitor.endswith("loss") else "max"


def check_optimizer(
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    interval: Interval | None = None,
    rates: Sequence[float | None] = (None,),
) -> None:
    """Refuse an optimizer or a schedule that cannot be built.

    Args:
        optimizer: factory of the optimizer.
        lr_scheduler: factory of the schedule.
        interval: what the schedule steps by, where it is given.
        rates: of every group of parameters that the optimizer will get, its own learning rate where it has one.

    Raises:
        UserError: with what the factory says.
    """
    try:
        parameters = [torch.nn.Parameter(torch.ones(2)) for _ in rates]
        groups: list[dict[str, Any]] = [{"params": [one]} for one in parameters]
        for group, rate in zip(groups, rates, strict=True):
            group |= {} if rate is None else {"lr": rate}
        built = _optimizer(optimizer, groups)
        if isinstance(built, LBFGS | SparseAdam):  # which look at their options and at gradients in a step only
            _try_step(built, parameters)
        if lr_scheduler is not None:
            schedule = _build(lr_scheduler, built, lambda _: 10, interval)
            if isinstance(schedule, ReduceLROnPlateau) and interval == "step":
                raise UserError("lr_scheduler_interval: ReduceLROnPlateau follows validations; leave the interval out")
            _try_steps(schedule, built)
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"the optimizer or its schedule cannot be built: {error}") from error


def _try_step(optimizer: Optimizer, parameters: list[torch.nn.Parameter]) -> None:
    """Take a step of an optimizer on a small problem.

    Raises:
        UserError: it takes none.
    """
    if isinstance(optimizer, LBFGS) and optimizer.param_groups[0]["max_iter"] < 1:
        raise UserError(f"optimizer: LBFGS takes max_iter of at least 1, not {optimizer.param_groups[0]['max_iter']}")

    def closure() -> float:
        optimizer.zero_grad()
        loss = torch.cat([*parameters]).pow(4).sum()
        loss.backward()
        return loss.item()

    with torch.enable_grad():
        closure()
        optimizer.step(closure)


def check_closures(optimizer: OptimizerCallable, accumulated: int, processes: int) -> None:
    """Refuse an optimizer that computes a step's loss several times where the later times give other gradients.

    Gradients of accumulated batches are cleared once per step, and each process decides by a loss of its own.

    Args:
        optimizer: factory of the optimizer.
        accumulated: batches per step.
        processes: of the training.

    Raises:
        UserError: LBFGS with accumulated batches or on several processes.
    """
    if accumulated == processes == 1:
        return
    if not isinstance(optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}]), LBFGS):
        return
    if accumulated != 1:
        raise UserError("optimizer: LBFGS computes a step's loss several times; leave accumulate_grad_batches at 1")
    raise UserError("optimizer: LBFGS decides by each process's own loss; train in one process")


def _optimizer(factory: OptimizerCallable, parameters: list[Any]) -> Optimizer:
    """Build an optimizer; groups without options of their own are one for an optimizer that takes only one (LBFGS).

    Raises:
        ValueError: what the optimizer says.
    """
    one_will_do = len(parameters) > 1 and all(isinstance(x, dict) and x.keys() == {"params"} for x in parameters)
    joined = [parameter for group in parameters for parameter in group["params"]] if one_will_do else []
    try:
        return factory(parameters)  # which adds its options to the groups
    except ValueError:
        if not one_will_do:
            raise
        return factory([{"params": joined}])


def _try_steps(schedule: Any, optimizer: Optimizer) -> None:
    """Take the first steps of a schedule and of all that it consists of: some values only fail there.

    Raises:
        UserError: a step gives a learning rate that cannot be.
    """
    for part, _, _ in _parts(schedule):
        for _ in range(1 if isinstance(part, OneCycleLR) else 2):  # which may have one
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the optimizer has taken none
                part.step(*([0.0] if isinstance(part, ReduceLROnPlateau) else []))  # type: ignore[arg-type]
            wrong = [rate for group in optimizer.param_groups if not 0 <= (rate := float(group["lr"])) < math.inf]
            if wrong:
                raise UserError(f"lr_scheduler: {type(part).__name__} makes a learning rate of {wrong[0]:g}")


def configured(
    module: pl.LightningModule,
    parameters: Iterable[Any],
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    interval: Interval | None = None,
) -> OptimizerLRScheduler:
    """Return what `configure_optimizers` returns, for every module that is trained.

    * `ReduceLROnPlateau` watches the measure by which `best.ckpt` is chosen, in its direction; Lightning's class of
      that name watches its own `monitor`.
    * `OneCycleLR`, `WarmupCosine` and `CyclicLR` step after every batch; the first two get the number of steps where it
      is not given.
    * A schedule that begins with a warm-up longer than the training has epochs steps after every batch.
    * Everything else steps once per epoch, unless `interval` says otherwise.

    Args:
        module: in a Trainer, which knows the length of the training.
        parameters: parameters or groups of them, as optimizers take them.
        optimizer: factory of the optimizer.
        lr_scheduler: factory of the schedule; None keeps the learning rate.
        interval: `epoch` or `step`, where the schedule's own is not wanted.

    Raises:
        UserError: an optimizer that does not take these parameters or this Trainer, a schedule that ends before the
            training does, or one that has nothing to watch.
    """
    try:
        built = _optimizer(optimizer, list(parameters))
    except ValueError as error:
        raise UserError(f"the optimizer cannot be built: {error}") from error
    if isinstance(built, LBFGS):
        trainer = module.trainer
        planned = [c for c in trainer.callbacks if isinstance(c, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
        most = max((n for one in planned for n in one.scheduling.values()), default=1)
        check_closures(optimizer, max(most, trainer.accumulate_grad_batches), trainer.world_size)
    if lr_scheduler is None:
        return built
    schedule = _build(lr_scheduler, built, lambda by: _length(module.trainer, by), interval)
    if isinstance(schedule, ReduceLROnPlateau):
        return _plateau(module.trainer, built, lr_scheduler, schedule)
    by: Interval = interval or _own_interval(schedule, module)
    for one, start, end in _parts(schedule):
        if isinstance(one, OneCycleLR | WarmupCosine):
            _check_length(one, (_length(module.trainer, by) if end is None else end) - start, by)
    return {"optimizer": built, "lr_scheduler": {"scheduler": schedule, "interval": by}}


def _build(
    factory: LRSchedulerCallable, optimizer: Optimizer, length: Callable[[Interval], int], interval: Interval | None
) -> Any:
    """The schedule; one cycle without a length gets the training's."""
    try:
        return factory(optimizer)
    except ValueError as error:
        if not re.search(r"either total_steps OR|total_steps is not given", str(error)):
            raise
    steps = length(interval or "step")
    try:
        return factory(optimizer, total_steps=steps)  # type: ignore[call-arg]
    except TypeError as error:
        raise UserError("lr_scheduler: a schedule within another one must be given its own total_steps") from error


def _length(trainer: pl.Trainer, by: Interval) -> int:
    length = trainer.estimated_stepping_batches if by == "step" else trainer.max_epochs
    if length is None or not 0 < length < float("inf"):
        raise UserError("lr_scheduler: needs a training of known length; give max_epochs, or its total_steps")
    return int(length)


def _parts(schedule: Any, start: int = 0, end: int | None = None) -> list[tuple[LRScheduler, int, int | None]]:
    """The schedules that a schedule consists of, in order; itself where it is a single one.

    Returns:
        Each with the epoch or step at which it begins, and the one at which the next takes its place, None at the end
        of the training.
    """
    if isinstance(schedule, SequentialLR):
        bounds = [start, *(start + milestone for milestone in schedule._milestones), end]
        places = zip(schedule._schedulers, bounds[:-1], bounds[1:], strict=True)
        return [part for one, begins, ends in places for part in _parts(one, begins or 0, ends)]
    if isinstance(schedule, ChainedScheduler):  # all at once
        return [part for one in schedule._schedulers for part in _parts(one, start, end)]
    return [(schedule, start, end)]


def _own_interval(schedule: Any, module: pl.LightningModule) -> Interval:
    """What a schedule steps by unless it is given."""
    parts = _parts(schedule)
    if any(isinstance(part, OneCycleLR | CyclicLR | WarmupCosine) for part, _, _ in parts):
        return "step"
    for part, start, _ in parts:
        warms_up = start == 0 and isinstance(part, LinearLR | ConstantLR)
        if warms_up and 0 < (module.trainer.max_epochs or 0) < part.total_iters:  # type: ignore[attr-defined]
            rank_zero_warn(
                f"lr_scheduler: a warm-up over {part.total_iters} in a training of "  # type: ignore[attr-defined]
                f"{module.trainer.max_epochs} epochs counts batches; set lr_scheduler_interval: epoch to count epochs"
            )
            return "step"
    return "epoch"


def _check_length(schedule: OneCycleLR | WarmupCosine, needed: int, by: Interval) -> None:
    """Refuse a schedule that ends before what it is there for does, `needed` epochs or steps."""
    given, name = schedule.total_steps, type(schedule).__name__
    if given < needed:
        raise UserError(
            f"lr_scheduler: {name} ends after {given} {by}s, the training has {needed}; leave total_steps out to "
            "get its length"
        )
    if given > needed:
        rank_zero_warn(f"lr_scheduler: {name} covers {given} {by}s, but the training has only {needed}")


def _plateau(
    trainer: pl.Trainer, optimizer: Optimizer, factory: LRSchedulerCallable, schedule: ReduceLROnPlateau
) -> OptimizerLRScheduler:
    chosen = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)
    own: str | None = getattr(schedule, "monitor", None)
    monitor = own or (chosen.monitor if chosen is not None else None) or MONITOR
    if monitor.startswith("val/") and not TrainerData(trainer).validates:
        raise UserError(f"lr_scheduler: ReduceLROnPlateau watches {monitor}, but there are no validation images")
    if chosen is not None and monitor == chosen.monitor:
        mode = chosen.mode
    else:
        mode = better(monitor) if monitor.endswith(("loss", "accuracy")) else schedule.mode
    if schedule.mode != mode:
        try:
            schedule = factory(optimizer, mode=mode)  # type: ignore[call-arg, assignment]
        except TypeError as error:
            raise UserError(
                f"lr_scheduler: ReduceLROnPlateau has mode {schedule.mode}, but for {monitor} {mode} is better"
            ) from error
    every = trainer.check_val_every_n_epoch or 1
    plan: Any = {"scheduler": schedule, "interval": "epoch", "monitor": monitor, "frequency": every}
    return {"optimizer": optimizer, "lr_scheduler": plan}
