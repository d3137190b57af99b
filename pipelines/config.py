"""What a pipeline does: phases in plain, validated values."""

from dataclasses import dataclass, field
from typing import Any, Literal

from handful.networks import NetworkConfig

#: A class and its arguments, not built yet: `{"class_path": …, "init_args": {…}}`.
Spec = dict[str, Any]


@dataclass
class WandbConfig:
    """Weights & Biases: one run a phase, grouped by pipeline.

    Attributes:
        mode: `auto` is online where somebody is logged in and offline otherwise, without a question;
            or `online`, `offline`, `disabled`. The environment variable WANDB_MODE goes before `auto`.
        project: name of the project.
        entity: user or team that owns the project; the account's default where None.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "handful"
    entity: str | None = None


@dataclass
class PhaseConfig:
    """One step of a pipeline.

    Attributes:
        module: what is trained, or the phase that does something else, with its arguments.
        max_epochs: epochs of training; 0 takes the module as it is handed over and only validates it.
        trainer: Trainer arguments that differ from the shared ones.
        callbacks: callbacks of this phase, with their arguments.
        data: arguments of the data module that differ in this phase.
        monitor: the measure by which `best.ckpt` is chosen; larger is better unless it ends in loss. Without validation
            images, one of validation leaves the last epoch the best.
    """

    module: Spec
    max_epochs: int = 0
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: list[Spec] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    monitor: str = "val/accuracy"


@dataclass
class Pipeline:
    """A whole run in plain values.

    Attributes:
        name: of the run.
        seed: of everything; each phase adds its place in the order.
        run_dir: folder of the run; `runs/<name>` where None.
        init_from: file of weights that the first phase starts from.
        phases_from: another run, of which finished phases that are the same in this one are taken instead of run.
        network: the network that the phases share.
        data: class and arguments of the data module.
        trainer: Trainer arguments shared by the phases.
        wandb: Weights & Biases.
        loggers: further loggers beside CSV: wandb, tensorboard, mlflow.
        phases: name → phase, in order.
    """

    phases: dict[str, PhaseConfig]
    data: Spec
    name: str = "run"
    seed: int = 0
    run_dir: str | None = None
    init_from: str | None = None
    phases_from: str | None = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    trainer: dict[str, Any] = field(default_factory=dict)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    loggers: str = "wandb"
