"""The command line: `python train.py pipeline|fit|validate|test|predict|…`."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import handful
from callbacks.predictions import WritePredictions
from datamodules.base import HandfulDataModule
from handful.errors import UserError, did_you_mean
from handful.text import safe_text
from lightning_modules import PhaseModule
from lightning_modules.base import ClassifierModule
from lightning_modules.checkpoints import check_weights
from pipelines.configs import configs_first, taken
from pipelines.loggers import guard
from pipelines.messages import OneSentenceParser, run_command
from pipelines.parse import parse_pipeline
from pipelines.ranks import global_rank
from pipelines.runs import Run
from pipelines.sync_batchnorm import synchronised
from pipelines.trainer_arguments import on_this_machine
from pipelines.trusted import trusting

USAGE = """usage: python train.py COMMAND [--help] [options]

  pipeline   run all phases of a config, each resumable: the same command again goes on where it stopped
  explain    why a run's model decides as it does, for your own pictures: a page and its numbers
  report     a finished run on one page: stages and cost, the features that decide, every class, curves
  tradeoff   what fewer features, and fewer of them a class, cost in accuracy: a table and a figure
  fit | validate | test | predict
             one phase at a time (LightningCLI); test --run_dir RUN [--phase PHASE] tests a finished run,
             predict --run_dir RUN writes predictions.csv into the phase's folder;
             predict --run_dir RUN --images FOLDER does so for pictures of your own

  python train.py pipeline --config configs/quickstart.yaml
  python train.py pipeline --config configs/quickstart.yaml --print_config
  python train.py explain  --run_dir runs/quickstart --images photos/
  python train.py tradeoff --run_dir runs/quickstart --n_features 4,6,10,20 --features_per_class 1,3,5
"""


class HandfulCLI(LightningCLI):
    """LightningCLI for one phase at a time, over Handful's modules and data modules.

    Differs in four things: the number of classes comes from the data; weights to start from are the module's own
    affair (`init_from`) and are read before `fit`; `--ckpt_path` never replaces what the config says;
    synchronised batch norms keep the activations inside them.
    """

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose complaints are one sentence."""
        parser: LightningArgumentParser = _LightningParser(**kwargs)
        parser.add_argument("-c", "--config", action="config", help="config file in YAML")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The module learns the number of classes from the data."""
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with batch norms synchronised in our way where it is asked to."""
        arguments: dict[str, Any] = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        arguments = on_this_machine(arguments)
        try:
            trainer = super().instantiate_trainer(**synchronised(arguments), sync_batchnorm=False)
        except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"trainer: the Trainer refuses its arguments: {' '.join(str(error).split())}") from error
        guard(trainer.loggers)
        return trainer

    def _parse_ckpt_path(self) -> None:
        """Leave the config as it is: LightningCLI would put the checkpoint's class and arguments in its place."""

    def before_fit(self) -> None:
        """Start from `init_from` where it is given, unless a checkpoint is resumed."""
        self._take_weights()

    def before_validate(self) -> None:
        """Refuse to measure random weights."""
        self._take_weights()

    def before_test(self) -> None:
        """Refuse to measure random weights."""
        self._take_weights()

    def before_predict(self) -> None:
        """Refuse to predict with random weights; keep what is predicted."""
        if not isinstance(self.model, ClassifierModule):
            raise UserError(f"predict: a {type(self.model).__name__} predicts no classes; give --phase of a classifier")
        self._take_weights()
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(WritePredictions())

    def _take_weights(self) -> None:
        assert isinstance(self.model, PhaseModule)
        path = self.config[self.subcommand].ckpt_path
        if path and not (self.subcommand == "fit" and path in ("last", "hpc")):  # Lightning's words for what it finds
            check_weights(path, self.model)
        elif not path:
            self.model.hand_over({})
            if self.subcommand != "fit" and self.model.starts_fresh:
                raise UserError(
                    f"{self.subcommand}: no weights but random ones; give --run_dir RUN, --ckpt_path FILE or "
                    "--model.init_from FILE"
                )


class _LightningParser(OneSentenceParser, LightningArgumentParser):
    """LightningCLI's parser, brief."""


def _lightning(arguments: list[str]) -> None:
    HandfulCLI(
        LightningModule,
        HandfulDataModule,
        trainer_class=Trainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        trainer_defaults={"num_sanity_val_steps": 0, "use_distributed_sampler": False},
        # only training has a configuration of its own to keep; a finished run's stays as it is
        save_config_callback=SaveConfigCallback if arguments[0] == "fit" else None,
        save_config_kwargs={"overwrite": True},
        args=_expand_run_dir(arguments),
    )


def _expand_run_dir(arguments: list[str]) -> list[str]:
    """`--run_dir RUN [--phase PHASE]` of `validate`, `test` and `predict` as the config and checkpoint it means."""
    runs, rest = taken(arguments[1:], "run_dir")
    phases, without = taken(rest, "phase")
    meant: list[str] = []
    if runs:
        run = Run(runs[-1])
        folder = run.folder / run.phase_of(phases[-1] if phases else None)
        rest = ["--config", str(folder / "config.yaml"), *without]
        meant = ["--ckpt_path", str(folder / "best.ckpt"), "--trainer.default_root_dir", str(folder)]
        meant += ["--trainer.logger", "false"]
    arranged, _ = configs_first(rest)
    texts = [argument for argument in arranged if argument.startswith("--config=")]
    return [arguments[0], *texts, *meant, *arranged[len(texts) :]]


def _pipeline(arguments: list[str]) -> None:
    from pipelines.runner import Runner

    pipeline, start_at = parse_pipeline(arguments)
    pipeline.trainer = on_this_machine(pipeline.trainer)
    runner = Runner(pipeline, start_at)
    runner.run()
    if global_rank() == 0:
        _write_report(runner.folder)


def _write_report(folder: Path) -> None:
    """The report of a run that has just ended; a picture that fails costs the report, never the run."""
    from pipelines.report import report

    try:
        print(f"  report: {report(str(folder))}", flush=True)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        warnings.warn(f"the report could not be written ({type(error).__name__}: {first})", stacklevel=2)


def _explain(arguments: list[str]) -> None:
    from pipelines.explain import explain

    page = _call(explain, "explain", arguments)
    print(f"written to {page}", flush=True)


def _predict_pictures(arguments: list[str]) -> None:
    from pipelines.predict import predict

    print(f"written to {_call(predict, 'predict', arguments)}", flush=True)


def _tradeoff(arguments: list[str]) -> None:
    from pipelines.tradeoff import tradeoff

    figure = _call(tradeoff, "tradeoff", arguments)
    print(f"\n  written to {figure.parent}", flush=True)


def _report(arguments: list[str]) -> None:
    from pipelines.report import report

    page = _call(report, "report", arguments)
    print(f"written to {page}", flush=True)


def _call(function: Callable[..., Any], name: str, arguments: list[str]) -> Any:
    """Call a function with options that are its arguments, their help its docstring's."""
    parser = OneSentenceParser(prog=f"train.py {name}", description=(function.__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", action="config", help="options from a file")
    parser.add_function_arguments(function)
    values = vars(parser.parse_args(configs_first(arguments)[0]))
    values.pop("config")
    return function(**values)


#: Commands of our own; everything else is LightningCLI's.
COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "pipeline": _pipeline,
    "explain": _explain,
    "report": _report,
    "tradeoff": _tradeoff,
}

_LIGHTNING = ("fit", "validate", "test", "predict")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends in one sentence on standard error and exit status 2.

    Args:
        arguments: command and options; those of the process where None.

    Raises:
        SystemExit: with status 2 on bad input.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _quieten()
    if not given or given[0] in ("-h", "--help"):
        print(USAGE)
        return
    if given[0] == "--version":
        print(f"handful {handful.__version__}")
        return
    run_command(lambda: _command(given))


def _command(arguments: list[str]) -> None:
    name = arguments[0]
    if name not in (*COMMANDS, *_LIGHTNING):
        known = (*COMMANDS, *_LIGHTNING)
        raise UserError(f"there is no command {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    trusted, rest = taken(arguments[1:], "trust")
    with trusting([package for text in trusted for package in text.split(",") if package]):
        if name in COMMANDS:
            COMMANDS[name](rest)
        elif name == "predict" and any(argument.partition("=")[0] == "--images" for argument in rest):
            _predict_pictures(rest)
        else:
            _lightning([name, *rest])


def _quieten() -> None:
    """Silence what a person can do nothing about; everything else is shown."""
    import logging

    for message in (
        r".*does not have many workers.*",  # two cores have none to spare; num_workers is documented
        r".*recommended to use `self.log\(.*sync_dist=True.*",  # our values are summed over ranks already
        r"The number of training batches .* is smaller than the logging interval.*",
        r"LightningCLI's args parameter is intended.*",  # a run folder stands for a config and a checkpoint
        r".*exists and is not empty.*",  # a resumed phase goes on in its folder
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
        r".*The ``compute`` method of metric .* was called before.*",
        r".*You are using `torch.load`.*",
        r"Be aware that when using `ckpt_path`.*",  # a run is tested without the callbacks it was trained with
        r"You have overridden `on_before_batch_transfer` in `LightningModule`.*",  # which is meant
        r"Total length of `list` across ranks is zero.*",  # a run without validation images, as it was told
    ):
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_not_a_tip)
        logging.getLogger(name).addFilter(_printable)
    warnings.formatwarning = _warning


def _printable(record: Any) -> bool:
    """Let no name from elsewhere steer the terminal through a logged message."""
    record.msg, record.args = safe_text(record.getMessage(), lines=True), ()
    return True


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning in one line, without the place in the code that raised it."""
    return f"handful: warning: {safe_text(message)}\n"


def _not_a_tip(record: Any) -> bool:
    text = str(record.getMessage())
    return not text.startswith(("💡", "GPU available", "TPU available", "HPU available", "`Trainer.fit` stopped"))
