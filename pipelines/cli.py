"""The command line: `python train.py COMMAND`."""

import contextlib
import importlib
import os
import sys
import warnings
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

from jsonargparse import DefaultHelpFormatter

import handful
from handful.cache_home import settle_cache_home
from handful.errors import UserError, did_you_mean
from handful.freed_memory import keep_freed_memory
from handful.progress import clear_bars, print_line
from handful.text import safe_text
from pipelines.commands.help import has_short_help, print_short_help
from pipelines.commands.value_check import check_values
from pipelines.configs import taken
from pipelines.errors import run_command
from pipelines.option_check import check_options
from pipelines.option_parser import OneSentenceParser
from pipelines.process_group import group_ended
from pipelines.process_state import forget_what_was_shown, process_kept, warnings_kept
from pipelines.processes import watch_parent

#: Our own commands and LightningCLI's, and what they do.
COMMANDS = {
    "pipeline": "run all phases of a config, each resumable: the same command again resumes where it stopped",
    "explain": "why a run's model decides as it does, for your own pictures: a page and its numbers",
    "evaluate": "measure how interpretable a run's stages are: a table and measures.json",
    "probe": "does a class's score depend on what should decide it: covers parts or a region, writes probe.json",
    "report": "a finished run on one page: stages and cost, the features that decide, every class, curves",
    "compare": "several runs side by side: accuracy, features, measures and cost in one table and on one page",
    "tradeoff": "what fewer features, and fewer of them per class, cost in accuracy: a table and a figure",
    "export": "a run's model as a folder to hand on: safetensors, ONNX or torch.export, with a model card",
    "push": "the same, uploaded to the Hugging Face Hub; --dry_run true sends nothing",
    "demo": "a page on your own machine: drop a picture, see what decided, move a feature (needs gradio)",
    "workspace": "a saved W&B workspace with panels for what a run logged; --dry_run true sends nothing",
    "fit": "train one module (LightningCLI)",
    "validate": "validate a module, or a finished run: --run_dir RUN [--phase PHASE]",
    "test": "test a module, or a finished run: --run_dir RUN [--phase PHASE]",
    "predict": "predictions.csv for a run's test images, or with --images FOLDER for pictures of your own",
}

#: Commands whose options are the arguments of classes.
_SLOW = ("pipeline", "fit", "validate", "test", "predict")

_EXAMPLES = """examples:
  python train.py pipeline --config configs/quickstart.yaml
  python train.py pipeline --config configs/quickstart.yaml --print_config
  python train.py explain  --run_dir runs/quickstart --images photos/
  python train.py predict  --run_dir runs/quickstart --images photos/
  python train.py evaluate --run_dir runs/quickstart --measures features
  python train.py tradeoff --run_dir runs/quickstart --n_features 4,6,10,20 --features_per_class 1,3,5

A config names classes of torch, Lightning and Handful only; --trust PACKAGE permits a package of your own.
"""


class _HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help with the examples as they stand."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends in one sentence on standard error and exit status 2.

    Args:
        arguments: command and options; those of the process where None.

    Raises:
        SystemExit: with status 2 on bad input, with 0 after `--help`, `--version` and `--print_config`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with process_kept(), group_ended(), quietened():
        keep_freed_memory()
        settle_cache_home()
        watch_parent()  # before imports of seconds: the process that started this one may be killed meanwhile
        run_command(lambda: _run(given or ["--help"]))


def _run(given: list[str]) -> None:
    name, rest = given[0], given[1:]
    if not name.startswith("-") and name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UserError(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}; there are {known}")
    if name not in COMMANDS:
        _parser().parse_args(given)
        return
    command = "predict_images" if name == "predict" and _has(rest, "--images") else name
    if {"-h", "--help"} & set(rest) and has_short_help(name):
        print_short_help(name)
        raise SystemExit(0)
    trusted, rest = taken(["--help" if argument == "--help_all" else argument for argument in rest], "trust")
    packages = [package for text in trusted for package in text.split(",") if package]
    others = bool(packages or os.environ.get("HANDFUL_TRUST"))
    if command in _SLOW:  # to parse its options, torch and Lightning are imported
        check_options(command, rest, others)
        with _trusting(packages):
            _run_slow(command, rest)
        return
    module = importlib.import_module(f"pipelines.commands.{command}")
    own, arranged = module.prepare(rest)
    values = _parser(name, own).parse_args([name, *arranged])[name]
    check_values(values, others)
    if hasattr(module, "check"):
        module.check(values)
    with _trusting(packages):
        module.run(values)


def _run_slow(command: str, rest: list[str]) -> None:
    module = importlib.import_module("pipelines.commands." + ("pipeline" if command == "pipeline" else "lightning"))
    if command != "pipeline":
        module.run([command, *rest])
        return
    own, arranged = module.prepare(rest)
    module.run(_parser(command, own).parse_args([command, *arranged])[command])


def _trusting(packages: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    from pipelines.permitted_classes import trusting

    return trusting(packages)


def _parser(chosen: str = "", own: OneSentenceParser | None = None) -> OneSentenceParser:
    """The parser of the command line, with the parser of the command that was chosen.

    The others are there by name only: theirs would import everything. LightningCLI has a parser of its own.
    """
    parser = OneSentenceParser(
        prog="train.py",
        description="Image classifiers that decide with a handful of features, and show why.",
        epilog=_EXAMPLES,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"handful {handful.__version__}", help="the version")
    subcommands = parser.add_subcommands(dest="command", required=True, metavar="COMMAND")
    for name, does in COMMANDS.items():
        subcommands.add_subcommand(name, own if own is not None and name == chosen else OneSentenceParser(), help=does)
    return parser


def _has(arguments: list[str], option: str) -> bool:
    return any(argument.partition("=")[0] == option for argument in arguments)


#: Warnings that a person can do nothing about.
_SILENCED = (
    r".*does not have many workers.*",  # two cores have none to spare; num_workers is documented
    r".*recommended to use `self.log\(.*sync_dist=True.*",  # our values are summed over ranks already
    r"The number of training batches .* is smaller than the logging interval.*",
    r"LightningCLI's args parameter is intended.*",  # a run folder stands for a config and a checkpoint
    r".*exists and is not empty.*",  # a resumed phase continues in its folder
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*The ``compute`` method of metric .* was called before.*",
    r".*You are using `torch.load`.*",
    r"Be aware that when using `ckpt_path`.*",  # a run is tested without the callbacks it was trained with
    r"The dirpath has changed from .*",  # the run was moved; its checkpoint is read where it is now
    r"You have overridden `on_before_batch_transfer` in `LightningModule`.*",  # which is meant
    r"Total length of `list` across ranks is zero.*",  # a run configured without validation images
)

#: Lightning's loggers whose messages are filtered.
_FILTERED = (
    "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed", "lightning.pytorch.loggers.mlflow",
)  # fmt: skip


@contextlib.contextmanager
def quietened() -> Iterator[None]:
    """Silence what a person can do nothing about, in the block; everything else is shown, on lines of its own."""
    import logging

    before, shown, formatted = list(warnings.filters), warnings.showwarning, warnings.formatwarning
    for message in _SILENCED:
        warnings.filterwarnings("ignore", message=message)
    ours = [one for one in warnings.filters if one not in before]
    filters = [(logging.getLogger(name), keep) for name in _FILTERED for keep in (_not_a_tip, _printable)]
    for logger, keep in filters:
        logger.addFilter(keep)
    warnings.formatwarning, warnings.showwarning = _warning, _show_warning
    try:
        with warnings_kept():
            yield
    finally:
        warnings.formatwarning, warnings.showwarning = formatted, shown
        for one in ours:
            if one in warnings.filters:
                warnings.filters.remove(one)  # type: ignore[attr-defined]
        forget_what_was_shown()
        for logger, keep in filters:
            logger.removeFilter(keep)


def _printable(record: Any) -> bool:
    """Let no name from elsewhere steer the terminal through a logged message, and wipe a bar before it."""
    record.msg, record.args = safe_text(record.getMessage(), lines=True), ()
    clear_bars()
    return True


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning in one line, without the place in the code that raised it."""
    return f"handful: warning: {safe_text(message)}\n"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning on a line of its own, also while a bar is drawn."""
    print_line(warnings.formatwarning(message, category, filename, lineno, line).rstrip("\n"), file)


def _not_a_tip(record: Any) -> bool:
    text = str(record.getMessage())
    hardware = ("GPU available", "TPU available", "HPU available")
    return not text.startswith(("💡", *hardware, "`Trainer.fit` stopped", "Loading `train_dataloader`",
                                "Experiment with name", "`Trainer(limit_val_batches=1.0)`"))  # fmt: skip
