"""The options of `pipeline` that are plain values, and the configs that it reads: what is known before any import."""

from collections.abc import Sequence
from pathlib import Path

from handful.errors import UserError
from pipelines.configs import ConfigFile, check_name, configs_first, taken
from pipelines.option_parser import OneSentenceParser
from pipelines.run_folder import OF_COMMANDS

#: What runs where no config is given: without images of one's own, and with them.
QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
PHOTOS = QUICKSTART.parent / "sldd" / "photos.yaml"
_OWN_IMAGES = ("--data.root", "--data.labels", "--data.init_args.root", "--data.init_args.labels")


def chosen_configs(arguments: Sequence[str]) -> tuple[list[str], list[ConfigFile]]:
    """Put the configs first, those that run where none is given among them, as `configs_first`.

    Raises:
        UserError: a config file cannot be read.
    """
    arranged, files = configs_first(arguments)
    if files or {"-h", "--help"} & set(arguments):
        return arranged, files
    own = {name for argument in arguments if (name := argument.partition("=")[0]) in _OWN_IMAGES}
    arranged, files = configs_first(["--config", str(PHOTOS if own else QUICKSTART), *arguments])
    if own and not any(name.endswith(".root") for name in own):  # the paths of a table start at its own folder
        table = next(value for name in own for value in taken(arguments, name.removeprefix("--"))[0])
        arranged.insert(1, f"--data.root={Path(table).parent}")
    return arranged, files


def phase_names(files: Sequence[ConfigFile]) -> list[str]:
    """The phases of the configs, in the order of their first mention.

    The parser needs an option group per phase: with one mapping for all of them, a second `--config` would replace
    what the first says of every phase.

    Raises:
        UserError: there are none, or one cannot be called so.
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


def add_plain_options(parser: OneSentenceParser) -> None:
    """Add the options of a pipeline that are plain values."""
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
    parser.add_argument(
        "--loggers", type=str, default="wandb", help="beside CSV: wandb, tensorboard, mlflow, with commas between"
    )


def add_plain_phase_options(parser: OneSentenceParser, phase: str) -> None:
    """Add the options of a phase that are plain values."""
    key = f"--phases.{phase}"
    parser.add_argument(f"{key}.max_epochs", type=int, default=0, help="epochs of training; 0 only validates")
    parser.add_argument(f"{key}.monitor", type=str, default="val/accuracy", help="measure of best.ckpt")
