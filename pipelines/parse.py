"""From configs and options to a pipeline in plain, validated values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback

import callbacks  # noqa: F401  registers the callbacks by class name
from datamodules.base import HandfulDataModule
from handful.errors import UserError
from handful.networks import NetworkConfig
from lightning_modules import PhaseModule
from pipelines.build import plain
from pipelines.messages import OneSentenceParser
from pipelines.phases import Phase, Pipeline, WandbConfig

#: What runs where no config is given.
QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def parse_pipeline(arguments: Sequence[str]) -> tuple[Pipeline, str | None]:
    """Read `--config` files and options; later ones win over earlier ones.

    Every phase of the configs becomes a group of options, so `--phases.dense.max_epochs 3` and
    `--phases.dense.module.beta 0` work, and a wrong key is told with its name.

    Returns:
        The pipeline, and the phase to redo from (`--start_at`) or None.

    Raises:
        UserError: a wrong key or value, in one sentence.
        SystemExit: with status 0 after `--help` or `--print_config`.
    """
    arguments = list(arguments)
    if not any(a == "--config" or a.startswith("--config=") for a in arguments):
        arguments = ["--config", str(QUICKSTART), *arguments]
    parser = pipeline_parser(_phase_names(_config_files(arguments)))
    values = plain(parser.parse_args(arguments))
    phases = {name: Phase(**_tidy(phase)) for name, phase in values["phases"].items()}
    pipeline = Pipeline(
        phases=phases,
        data=values["data"],
        name=values["name"],
        seed=values["seed"],
        run_dir=values["run_dir"],
        init_from=values["init_from"],
        network=NetworkConfig.of(values["network"]),
        trainer=values["trainer"] or {},
        wandb=WandbConfig(**values["wandb"]),
    )
    return pipeline, values["start_at"]


def pipeline_parser(phases: Sequence[str]) -> OneSentenceParser:
    """The parser of `pipeline`, with a group of options for every phase."""
    parser = OneSentenceParser(prog="train.py pipeline", description="Run all phases of a config, each resumable.")
    parser.add_argument("--config", action="config", help="config file; several are merged, later ones win")
    parser.add_argument("--name", type=str, default="run", help="name of the run")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything; each phase adds its place")
    parser.add_argument("--run_dir", type=str | None, default=None, help="folder of the run; runs/NAME by default")
    parser.add_argument("--start_at", type=str | None, default=None, help="redo from this phase on")
    parser.add_argument("--init_from", type=str | None, default=None, help="file of weights for the first phase")
    parser.add_argument("--network", type=NetworkConfig, default=NetworkConfig())
    parser.add_subclass_arguments(HandfulDataModule, "data", required=True)
    parser.add_argument("--trainer", type=dict[str, Any], default={}, help="Trainer arguments of all phases")
    parser.add_argument("--wandb", type=WandbConfig, default=WandbConfig())
    for name in phases:
        key = f"phases.{name}"
        # what the runner gives to the modules must not be asked for here
        parser.add_subclass_arguments(
            PhaseModule, f"{key}.module", required=True, skip={"num_classes", "network"}
        )
        parser.add_argument(f"--{key}.max_epochs", type=int, default=0, help="epochs of training; 0 only validates")
        parser.add_argument(f"--{key}.trainer", type=dict[str, Any], default={}, help="Trainer arguments")
        parser.add_argument(f"--{key}.callbacks", type=list[Callback], default=[], help="callbacks")
        parser.add_argument(f"--{key}.data", type=dict[str, Any], default={}, help="data arguments of this phase")
        parser.add_argument(f"--{key}.monitor", type=str, default="val/accuracy", help="measure of best.ckpt")
    return parser


def _config_files(arguments: Sequence[str]) -> list[Path]:
    files = []
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            files.append(Path(arguments[i + 1]))
        elif argument.startswith("--config="):
            files.append(Path(argument.split("=", 1)[1]))
    return files


def _phase_names(files: Sequence[Path]) -> list[str]:
    """The phases of the configs, in the order of their first mention."""
    names: dict[str, None] = {}
    for file in files:
        if not file.is_file():
            raise UserError(f"--config: there is no file {file}")
        try:
            content = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise UserError(f"{file}: not a YAML file ({' '.join(str(error).split())})") from error
        phases = content.get("phases", {}) if isinstance(content, dict) else None
        if not isinstance(phases, dict):
            raise UserError(f"{file}: a config is a mapping, and so are its phases: name → phase")
        names |= dict.fromkeys(phases)
    if not names:
        raise UserError(f"{', '.join(map(str, files))}: no phases; a pipeline needs at least one")
    return list(names)


def _tidy(phase: dict[str, Any]) -> dict[str, Any]:
    """Empty values as empty lists and mappings."""
    defaults: dict[str, Any] = {"trainer": {}, "callbacks": [], "data": {}}
    return {key: defaults[key] if value is None and key in defaults else value for key, value in phase.items()}
