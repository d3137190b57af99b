"""From configs and options to a pipeline in plain, validated values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback

import pipelines.permitted_classes  # noqa: F401  permits the classes that a config may name
from datamodules.base import HandfulDataModule
from handful.errors import UserError, did_you_mean
from handful.networks import NetworkConfig
from lightning_modules import TrainedModule
from pipelines.automatic_values import with_choices
from pipelines.build import plain
from pipelines.config import PhaseConfig, Pipeline, WandbConfig
from pipelines.configs import ConfigFile, check_name, configs_first, taken
from pipelines.more_loggers import logger_names
from pipelines.option_parser import OneSentenceParser
from pipelines.phases import Phase
from pipelines.rounds import with_rounds
from pipelines.run_folder import OF_COMMANDS
from pipelines.trainer_arguments import check_values

#: What runs where no config is given: without images of one's own, and with them.
QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
PHOTOS = QUICKSTART.parent / "sldd" / "photos.yaml"
_OWN_IMAGES = ("--data.root", "--data.labels", "--data.init_args.root", "--data.init_args.labels")


def parse_pipeline(arguments: Sequence[str]) -> tuple[Pipeline, str | None]:
    """Read `--config` files and options; later files win over earlier ones, options over files.

    Every phase of the configs becomes a group of options, so `--phases.dense.max_epochs 3` and
    `--phases.dense.module.beta 0` work, and an error names the wrong key.

    Returns:
        The pipeline, and the phase to redo from (`--start_at`) or None.

    Raises:
        UserError: a wrong key or value, in one sentence.
        SystemExit: with status 0 after `--help` or `--print_config`.
    """
    parser, arranged = prepare_pipeline(arguments)
    return pipeline_of(parser.parse_args(arranged))


def prepare_pipeline(arguments: Sequence[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser for a pipeline's configs and options, and these as it takes them.

    Raises:
        UserError: a config file cannot be read, or what a value follows from that it leaves to the data (`auto`).
    """
    arranged, files = configs_first(arguments)
    if not files and not {"-h", "--help"} & set(arguments):
        own = {name for argument in arguments if (name := argument.partition("=")[0]) in _OWN_IMAGES}
        arranged, files = configs_first(["--config", str(PHOTOS if own else QUICKSTART), *arguments])
        if own and not any(name.endswith(".root") for name in own):  # the paths of a table start at its own folder
            table = next(value for name in own for value in taken(arguments, name.removeprefix("--"))[0])
            arranged.insert(1, f"--data.root={Path(table).parent}")
    parser = pipeline_parser(_phase_names(files) if files else ())
    return parser, with_choices(parser, arranged)


def pipeline_of(parsed: Namespace) -> tuple[Pipeline, str | None]:
    """The pipeline of parsed values, and the phase to redo from (`--start_at`) or None.

    Raises:
        UserError: a value that cannot be.
    """
    values = plain(parsed)
    check_name(values["name"], "name")
    check_values("trainer", values["trainer"] or {})
    values["phases"] = with_rounds(values["phases"], values["rounds"])
    for name, phase in values["phases"].items():
        check_values(f"phases.{name}.trainer", phase["trainer"] or {})
    if values["start_at"] not in (None, *values["phases"]):
        known = ", ".join(values["phases"])
        hint = did_you_mean(values["start_at"], values["phases"])
        raise UserError(f"start_at: no phase {values['start_at']!r}; there are {known}{hint}")
    phases = {name: PhaseConfig(**_tidy(phase)) for name, phase in values["phases"].items()}
    pipeline = Pipeline(
        phases=phases,
        data=values["data"],
        name=values["name"],
        seed=values["seed"],
        run_dir=values["run_dir"],
        init_from=values["init_from"],
        phases_from=values["phases_from"],
        network=NetworkConfig.of(values["network"]),
        trainer=values["trainer"] or {},
        wandb=WandbConfig(**values["wandb"]),
        loggers=",".join(logger_names(values["loggers"])),
    )
    return pipeline, values["start_at"]


def pipeline_parser(phases: Sequence[str]) -> OneSentenceParser:
    """The parser of `pipeline`, with a group of options for every phase."""
    parser = OneSentenceParser(prog="train.py pipeline", description="Run all phases of a config, each resumable.")
    parser.add_argument("--config", action="config", help="config file; several are merged, later ones win")
    parser.add_argument("--name", type=str, default="run", help="name of the run")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything; each phase adds its place")
    parser.add_argument(
        "--seeds", type=str | None, default=None, help="run once for each, as in 0,1,2; writes mean and spread"
    )
    parser.add_argument("--run_dir", type=str | None, default=None, help="folder of the run; runs/NAME by default")
    parser.add_argument("--start_at", type=str | None, default=None, help="redo from this phase on")
    parser.add_argument("--init_from", type=str | None, default=None, help="file of weights for the first phase")
    parser.add_argument(
        "--phases_from", type=str | None, default=None,
        help="another run: its finished phases that are the same in this one are copied instead of run",
    )  # fmt: skip
    parser.add_argument("--network", type=NetworkConfig, default=NetworkConfig())
    parser.add_subclass_arguments(HandfulDataModule, "data", required=True)
    parser.add_argument("--trainer", type=dict[str, Any], default={}, help="Trainer arguments of all phases")
    parser.add_argument("--wandb", type=WandbConfig, default=WandbConfig())
    parser.add_argument(
        "--loggers", type=str, default="wandb", help="beside CSV: wandb, tensorboard, mlflow, with commas between"
    )
    parser.add_argument(
        "--rounds", type=dict[str, Any], default={}, help="phases that are repeated: phases, times, values by round"
    )
    for name in phases:
        key = f"phases.{name}"
        # what the runner gives to the modules must not be asked for here
        parser.add_subclass_arguments(
            (TrainedModule, Phase), f"{key}.module", required=True, skip={"num_classes", "network"}
        )
        parser.add_argument(f"--{key}.max_epochs", type=int, default=0, help="epochs of training; 0 only validates")
        parser.add_argument(f"--{key}.trainer", type=dict[str, Any], default={}, help="Trainer arguments")
        parser.add_argument(f"--{key}.callbacks", type=list[Callback], default=[], help="callbacks")
        parser.add_argument(f"--{key}.data", type=dict[str, Any], default={}, help="data arguments of this phase")
        parser.add_argument(f"--{key}.monitor", type=str, default="val/accuracy", help="measure of best.ckpt")
    return parser


def _phase_names(files: Sequence[ConfigFile]) -> list[str]:
    """The phases of the configs, in the order of their first mention.

    The parser needs an option group per phase: with one mapping for all of them, a second `--config` would replace
    what the first says of every phase.
    """
    names: dict[str, None] = {}
    for file, _, content in files:
        phases = content.get("phases") or {}
        if not isinstance(phases, dict):
            raise UserError(f"{file}: phases is a mapping, name → phase")
        for name, phase in phases.items():
            check_name(name, f"{file}: phases")
            if "." in name or name in OF_COMMANDS:
                raise UserError(f"{file}: phases: a phase cannot be called {name!r}")
            if not isinstance(phase, dict):
                raise UserError(f"{file}: phases.{name} is a mapping, not {phase!r:.60}")
        names |= dict.fromkeys(phases)
    if not names:
        raise UserError(f"{', '.join(str(file.path) for file in files)}: no phases; a pipeline needs at least one")
    return list(names)


def _tidy(phase: dict[str, Any]) -> dict[str, Any]:
    """Empty values as empty lists and mappings."""
    defaults: dict[str, Any] = {"trainer": {}, "callbacks": [], "data": {}}
    return {key: defaults[key] if value is None and key in defaults else value for key, value in phase.items()}
