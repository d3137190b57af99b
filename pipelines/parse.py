"""From configs and options to a pipeline in plain, validated values."""

from collections.abc import Mapping, Sequence
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
from pipelines.configs import check_name
from pipelines.more_loggers import logger_names
from pipelines.option_parser import OneSentenceParser
from pipelines.phases import Phase
from pipelines.plain_options import add_plain_options, add_plain_phase_options, chosen_configs, phase_names
from pipelines.rounds import with_rounds
from pipelines.trainer_arguments import check_values


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
    arranged, files = chosen_configs(arguments)
    parser = pipeline_parser(phase_names(files) if files else ())
    return parser, with_choices(parser, arranged)


def pipeline_of(parsed: Namespace) -> tuple[Pipeline, str | None]:
    """The pipeline of parsed values, and the phase to redo from (`--start_at`) or None.

    Raises:
        UserError: a value that cannot be.
    """
    values = plain(parsed)
    _refuse_null(values)
    check_name(values["name"], "name")
    check_values("trainer", values["trainer"] or {})
    if not isinstance(values["wandb"], dict):  # the parser takes a list of mappings for a group
        raise UserError(f"wandb: a mapping of mode, project and entity, not {values['wandb']!r:.60}")
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
    add_plain_options(parser)
    parser.add_argument("--network", type=NetworkConfig, default=NetworkConfig())
    parser.add_subclass_arguments(HandfulDataModule, "data", required=True)
    parser.add_argument("--trainer", type=dict[str, Any], default={}, help="Trainer arguments of all phases")
    parser.add_argument("--wandb", type=WandbConfig, default=WandbConfig())
    parser.add_argument(
        "--rounds", type=dict[str, Any], default={}, help="phases that are repeated: phases, times, values by round"
    )
    for name in phases:
        key = f"phases.{name}"
        # what the runner gives to the modules must not be asked for here
        parser.add_subclass_arguments(
            (TrainedModule, Phase), f"{key}.module", required=True, skip={"num_classes", "network"}
        )
        add_plain_phase_options(parser, name)
        parser.add_argument(f"--{key}.trainer", type=dict[str, Any], default={}, help="Trainer arguments")
        parser.add_argument(f"--{key}.callbacks", type=list[Callback], default=[], help="callbacks")
        parser.add_argument(f"--{key}.data", type=dict[str, Any], default={}, help="data arguments of this phase")
    return parser


def _refuse_null(values: Mapping[str, Any]) -> None:
    """Refuse null, as an empty key of a config is, for what must have a value; the parser takes it everywhere."""
    of_all = {key: values[key] for key in ("name", "seed", "loggers", "wandb", "network")}
    of_phases = {
        f"phases.{name}.{key}": phase[key]
        for name, phase in values["phases"].items()
        for key in ("max_epochs", "monitor")
    }
    for key, value in {**of_all, **of_phases}.items():
        if value is None:
            off = "; wandb.mode disabled switches it off" if key == "wandb" else ""
            raise UserError(f"{key}: it has no value (null); leave the key out to have the default{off}")


def _tidy(phase: dict[str, Any]) -> dict[str, Any]:
    """Empty values as empty lists and mappings."""
    defaults: dict[str, Any] = {"trainer": {}, "callbacks": [], "data": {}}
    return {key: defaults[key] if value is None and key in defaults else value for key, value in phase.items()}
