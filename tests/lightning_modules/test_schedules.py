"""Schedules over real trainings: what the learning rate really was, batch by batch."""

import itertools
import math
from functools import partial
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from handful.errors import UserError
from lightning_modules import WarmupCosine
from lightning_modules.schedules import _own_interval, check_closures, check_optimizer, configured, follows_length
from pipelines.build import build_phase
from pipelines.cli import main
from pipelines.parse import parse_pipeline
from pipelines.runner import Runner
from tests.helpers.pipeline import tiny_config, write_config

EPOCHS, BATCHES = 3, 3


class Rates(pl.Callback):
    """Keeps the learning rate of every batch, of the last training."""

    seen: list[float] = []  # noqa: RUF012  one training at a time

    def on_train_start(self, trainer, pl_module):
        Rates.seen = []
        Rates.plan = trainer.lr_scheduler_configs[0] if trainer.lr_scheduler_configs else None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        Rates.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def rates(tmp_path, schedule, monitor="val/accuracy", **init_args):
    """Train the dense phase alone and return the learning rates."""
    dense = tiny_config()["phases"]["dense"]
    dense["module"]["init_args"] |= {"lr_scheduler": schedule, **init_args}
    dense |= {"monitor": monitor, "callbacks": [{"class_path": f"{__name__}.Rates"}]}
    config = tiny_config(phases={"dense": dense})
    config["data"]["init_args"] |= {"images_per_class": 8, "batch_size": 8}
    path = write_config(tmp_path, **config)
    Runner(parse_pipeline(["--config", str(path), "--run_dir", str(tmp_path / "run")])[0]).run()
    assert len(Rates.seen) == EPOCHS * BATCHES
    return Rates.seen


def spec(name, **init_args):
    return {"class_path": name, "init_args": init_args}


def test_one_cycle_gets_the_number_of_steps_and_ends_low(tmp_path):
    seen = rates(tmp_path, spec("OneCycleLR", max_lr=0.1, pct_start=0.4))
    assert seen[0] == pytest.approx(0.1 / 25)
    assert max(seen) == pytest.approx(0.1, rel=0.05)
    assert seen[-1] == pytest.approx(0.1 / 25 / 1e4, rel=0.01)


def test_one_cycle_by_epochs_where_it_is_asked_for(tmp_path):
    seen = rates(tmp_path, spec("OneCycleLR", max_lr=0.1), lr_scheduler_interval="epoch")
    assert len(set(seen)) == EPOCHS
    assert Rates.plan.scheduler.total_steps == EPOCHS


def test_cyclic_turns_after_batches(tmp_path):
    seen = rates(tmp_path, spec("CyclicLR", base_lr=0.01, max_lr=0.05, step_size_up=2, cycle_momentum=False))
    assert seen[:5] == pytest.approx([0.01, 0.03, 0.05, 0.03, 0.01])


@pytest.mark.parametrize(
    ("schedule", "changes"),
    [
        (spec("LinearLR", start_factor=0.1, total_iters=6), 6),  # longer than the epochs: counts batches
        (spec("LinearLR", start_factor=0.1, total_iters=2), 2),  # counts epochs
        (spec("CosineAnnealingLR", T_max=3), 2),
        (spec("CosineAnnealingWarmRestarts", T_0=1), 0),
        (
            spec(
                "lightning_modules.WarmupThen",
                schedulers=[spec("LinearLR", start_factor=0.1, total_iters=4), spec("CosineAnnealingLR", T_max=5)],
                milestones=[4],
            ),
            8,
        ),
    ],
)
def test_the_interval_follows_the_schedule(tmp_path, schedule, changes):
    seen = rates(tmp_path, schedule)
    assert sum(a != b for a, b in itertools.pairwise(seen)) == changes


def test_the_interval_can_be_given(tmp_path):
    schedule = spec("CosineAnnealingLR", T_max=EPOCHS * BATCHES)
    seen = rates(tmp_path, schedule, lr_scheduler_interval="step")
    assert seen[-1] < 0.001 < seen[0] == 0.01


@pytest.mark.parametrize(("monitor", "mode"), [("val/accuracy", "max"), ("val/loss", "min")])
def test_a_plateau_is_looked_for_in_the_monitor_of_the_phase(tmp_path, monitor, mode):
    rates(tmp_path, spec("ReduceLROnPlateau", patience=0, factor=0.5), monitor=monitor)
    assert (Rates.plan.monitor, Rates.plan.scheduler.mode) == (monitor, mode)


def test_a_plateau_of_the_right_measure_lowers_the_rate(tmp_path):
    """An accuracy can only get better upwards: a threshold of 1000 is a plateau in every epoch."""
    plateau = spec("ReduceLROnPlateau", patience=0, factor=0.5, threshold=1000, threshold_mode="abs")
    seen = rates(tmp_path, plateau)
    assert [seen[0], seen[3], seen[6]] == pytest.approx([0.01, 0.01, 0.005])


def test_lightnings_plateau_keeps_its_own_monitor(tmp_path):
    rates(tmp_path, spec("lightning.pytorch.cli.ReduceLROnPlateau", monitor="train/loss", patience=0))
    assert (Rates.plan.monitor, Rates.plan.scheduler.mode) == ("train/loss", "min")


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("Dense", {"network": {"backbone": "conv4", "options": {"width": 4}}, "num_classes": 3}),
        ("Prototypical", {"network": {"backbone": "conv4", "options": {"width": 4}}}),
        ("InfoMaxPlugin", {}),
    ],
)
def test_every_module_that_is_trained_has_one_way(module, extra):
    built = build_phase(
        {"class_path": module, "init_args": {"lr_scheduler": spec("OneCycleLR", max_lr=0.1), **extra}}, "x", {}
    ).module
    built.scheduler_interval = None
    for wrong in ({"lr": -1}, {"betas": (2, 2)}):
        built.optimizer_factory = lambda parameters, wrong=wrong: torch.optim.AdamW(parameters, **wrong)
        with pytest.raises(UserError, match="cannot be built"):
            built.check(_classifier())


def _classifier():
    from handful.networks import build_classifier

    return build_classifier({"backbone": "conv4", "options": {"width": 4}}, 3)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (spec("OneCycleLR", max_lr=0.1, total_steps=4), "OneCycleLR ends after 4 steps, the training has 9"),
        (spec("OneCycleLR"), "max_lr"),
        (spec("CyclicLR", base_lr=0.1, max_lr=0.01, cycle_momentum=True, scale_mode="x", mode="bogus"), "mode"),
        # known in the middle of a training before
        (spec("StepLR", step_size=0), "cannot be built: integer modulo by zero"),
        (spec("CosineAnnealingLR", T_max=0), "cannot be built: integer modulo by zero"),
        (spec("ExponentialLR", gamma=-0.5), "ExponentialLR makes a learning rate of -0.0"),
        (spec("ExponentialLR", gamma=float("nan")), "ExponentialLR makes a learning rate of nan"),
        (
            spec(
                "lightning_modules.WarmupThen",
                schedulers=[spec("LinearLR"), spec("StepLR", step_size=0)],
                milestones=[1],
            ),
            "cannot be built: integer modulo by zero",
        ),
        (
            spec("lightning.pytorch.cli.ReduceLROnPlateau", monitor="val/los"),
            "dense.module.lr_scheduler.monitor: 'val/los' is not logged when Dense is trained; did you mean 'val/loss'",
        ),
    ],
)
def test_schedules_that_cannot_work(tmp_path, capsys, schedule, said):
    dense = tiny_config()["phases"]["dense"]
    dense["module"]["init_args"] |= {"lr_scheduler": schedule}
    dense["callbacks"] = []
    config = tiny_config(phases={"dense": dense})
    config["data"]["init_args"] |= {"images_per_class": 8, "batch_size": 8}
    with pytest.raises(SystemExit) as end:
        main(["pipeline", "--config", str(write_config(tmp_path, **config)), "--run_dir", str(tmp_path / "run")])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_plateau_needs_validation_images(tmp_path, capsys):
    dense = tiny_config()["phases"]["dense"]
    dense["module"]["init_args"] |= {"lr_scheduler": spec("ReduceLROnPlateau")}
    dense["callbacks"] = []
    config = tiny_config(phases={"dense": dense})
    config["data"]["init_args"] |= {"val_images_per_class": 0}
    with pytest.raises(SystemExit):
        main(["pipeline", "--config", str(write_config(tmp_path, **config)), "--run_dir", str(tmp_path / "run")])
    assert "ReduceLROnPlateau watches val/accuracy, but there are no validation images" in capsys.readouterr().err


def test_a_warm_up_and_a_cosine_over_the_whole_training(tmp_path):
    seen = rates(tmp_path, spec("lightning_modules.WarmupCosine", warmup=0.25))
    steps = EPOCHS * BATCHES
    rising = 0.25 * steps
    up = [0.01 * (s + 1) / (rising + 1) for s in range(steps) if s < rising]
    down = [0.005 + 0.005 * math.cos(math.pi * (s - rising) / (steps - rising)) for s in range(len(up), steps)]
    expected = up + down
    assert seen == pytest.approx(expected)
    assert max(seen) <= 0.01
    assert seen[-1] < 0.004


def test_every_group_keeps_its_own_peak():
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 1.0)], lr=9)
    schedule = WarmupCosine(optimizer, total_steps=10, warmup=0.0)
    assert schedule.get_last_lr() == [0.1, 1.0]
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("bad", [{"warmup": 1.0}, {"warmup": -0.1}, {"total_steps": 0}])
def test_a_warm_up_that_cannot_be_is_refused(bad):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=next(iter(bad))):
        WarmupCosine(optimizer, **{"total_steps": 5, **bad})


@pytest.mark.parametrize(
    ("schedule", "follows"),
    [
        (spec("lightning_modules.WarmupCosine"), True),
        (spec("torch.optim.lr_scheduler.OneCycleLR", max_lr=0.1), True),
        (spec("OneCycleLR", max_lr=0.1, total_steps=100), False),
        (spec("CosineAnnealingLR", T_max=3), False),
        (None, False),
    ],
)
def test_what_gets_its_length_from_the_training_cannot_be_continued_for_longer(schedule, follows):
    assert follows_length(schedule) == follows


def test_a_training_with_another_number_of_steps_is_not_resumed_in_silence():
    def schedule(steps):
        return WarmupCosine(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), total_steps=steps)

    schedule(5).load_state_dict(schedule(5).state_dict())
    with pytest.raises(UserError, match="began with 20 steps and has 5 now"):
        schedule(5).load_state_dict(schedule(20).state_dict())


@pytest.mark.parametrize("name", ["OneCycleLR", "lightning_modules.WarmupCosine"])
def test_a_number_of_steps_that_cannot_be_is_not_replaced(tmp_path, name):
    arguments = {"max_lr": 0.1} if name == "OneCycleLR" else {}
    with pytest.raises(UserError, match="total_steps"):
        rates(tmp_path, spec(name, total_steps=0, **arguments))


def after(milestone, **last):
    """A constant rate, then one cycle from a step on."""
    first = spec("ConstantLR", factor=0.5, total_iters=milestone)
    return spec("lightning_modules.WarmupThen", schedulers=[first, spec("OneCycleLR", **last)], milestones=[milestone])


def test_one_cycle_behind_another_schedule_has_the_steps_that_are_left(tmp_path):
    seen = rates(tmp_path, after(2, max_lr=0.1, total_steps=EPOCHS * BATCHES - 2))
    assert seen[-1] == pytest.approx(0.1 / 25 / 1e4, rel=0.01)


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        (after(2, max_lr=0.1, total_steps=6), "OneCycleLR ends after 6 steps, the training has 7"),
        (after(2, max_lr=0.1), "a schedule within another one must be given its own total_steps"),
        (spec("LRScheduler"), "its schedule cannot be built"),
    ],
)
def test_schedules_within_others_that_cannot_be(tmp_path, schedule, sentence):
    with pytest.raises(UserError, match=sentence):
        rates(tmp_path, schedule)


def test_a_warm_up_beside_another_schedule_counts_batches_too():
    module = pl.LightningModule()
    module._trainer = pl.Trainer(max_epochs=4, logger=False, enable_checkpointing=False, accelerator="cpu")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=9)
    other = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    chained = torch.optim.lr_scheduler.ChainedScheduler([other, warm_up], optimizer)
    with pytest.warns(UserWarning, match="a warm-up over 9 in a training of 4 epochs counts batches"):
        assert _own_interval(chained, module) == "step"


#: What an optimizer needs to know of a Trainer.
ONE = SimpleNamespace(accumulate_grad_batches=1, world_size=1, callbacks=[])
OPTIMIZERS = {name: kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)} | {
    "Optimizer": torch.optim.Optimizer
}
REFUSED = {"Muon": "only supports 2D", "SparseAdam": "does not support dense", "Optimizer": "cannot be built"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_or_is_refused_in_a_sentence(name):
    options = {} if name in ("Optimizer", "Adafactor") else {"lr": 0.01}
    built = partial(OPTIMIZERS[name], **options)
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            check_optimizer(built, None, rates=(None, None))
        return
    check_optimizer(built, None, rates=(None, None))
    network = torch.nn.Linear(2, 2)
    groups = [{"params": [network.weight]}, {"params": [network.bias]}]
    optimizer = configured(SimpleNamespace(trainer=ONE), groups, built, None)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert len(optimizer.param_groups) == (1 if name == "LBFGS" else 2)


def test_an_optimizer_of_one_group_and_a_rate_of_the_head():
    with pytest.raises(UserError, match="parameter groups"):
        check_optimizer(torch.optim.LBFGS, None, rates=(None, 0.1))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adadelta", "ASGD", "Rprop", "RMSprop"])
def test_options_for_a_gpu_are_not_tried_on_the_cpu(name):
    check_optimizer(partial(OPTIMIZERS[name], lr=0.01, capturable=True), None, rates=(None, None))


@pytest.mark.parametrize(
    "options", [{"line_search_fn": "foo"}, {"history_size": 0}, {"history_size": -1}, {"max_iter": 0}]
)
def test_options_that_lbfgs_looks_at_in_a_step_are_refused_before(options):
    with pytest.raises(UserError):
        check_optimizer(partial(torch.optim.LBFGS, **options), None, rates=(None, None))
    check_optimizer(partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"), None, rates=(None, None))


def test_lbfgs_is_refused_where_later_computations_of_a_step_have_other_gradients(tmp_path):
    phase = {"class_path": "Dense", "init_args": {"optimizer": spec("LBFGS", lr=0.1)}}
    config = tiny_config(phases={"dense": {"module": phase, "max_epochs": 1}})
    for options, said in (({"accumulate_grad_batches": 2}, "accumulate_grad_batches"), ({"devices": 2}, "one process")):
        path = write_config(tmp_path, **config | {"trainer": config["trainer"] | options})
        with pytest.raises(UserError, match=rf"phases.dense: optimizer: LBFGS .* {said}"):
            Runner(parse_pipeline(["--config", str(path), "--run_dir", str(tmp_path / "run")])[0]).run()
    assert not (tmp_path / "run").exists()
    check_closures(torch.optim.SGD, 4, 4)


def test_lbfgs_is_refused_where_batches_are_accumulated_in_later_epochs():
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False,
                         callbacks=[pl.callbacks.GradientAccumulationScheduler({3: 2})])  # fmt: skip
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))]}]
    with pytest.raises(UserError, match="accumulate_grad_batches"):
        configured(SimpleNamespace(trainer=trainer), groups, torch.optim.LBFGS, None)
