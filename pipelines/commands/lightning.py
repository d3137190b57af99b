"""`python train.py fit|validate|test|predict`: one phase at a time, by LightningCLI."""

from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from callbacks.predictions import WritePredictions
from datamodules.base import HandfulDataModule
from handful.errors import UserError
from handful.tensor_files import find_tensors
from lightning_modules import TrainedModule
from lightning_modules.checkpoints import check_weights
from lightning_modules.classifier import ClassifierModule
from pipelines.configs import configs_first, read_config, taken
from pipelines.finished_run import Run
from pipelines.launcher import watch_processes
from pipelines.loggers import guard
from pipelines.option_parser import OneSentenceParser
from pipelines.output_places import check_places, check_removed, own_cache
from pipelines.processes import lost_process
from pipelines.progress import with_progress_bar
from pipelines.sync_batchnorm import synchronised
from pipelines.tables import format_table
from pipelines.trainer import share_the_cores
from pipelines.trainer_arguments import check_values, given_values, on_this_machine


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
        check_values("trainer", given_values(arguments))
        arguments = on_this_machine(arguments)
        try:
            trainer = super().instantiate_trainer(**synchronised(arguments), sync_batchnorm=False)
        except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"trainer: the Trainer refuses its arguments: {' '.join(str(error).split())}") from error
        self._check_writers(arguments)
        guard(trainer.loggers)
        watch_processes(trainer)
        return trainer

    def _check_writers(self, arguments: dict[str, Any]) -> None:
        """Refuse callbacks and profilers of a config that would write or remove files elsewhere.

        What a person trains by herself may write where she says; but nothing removes a file that is there already.
        """
        given = arguments.get("callbacks") or []
        writers = [*(given if isinstance(given, list) else [given]), arguments.get("profiler")]
        if self.subcommand == "fit":
            check_removed("trainer", writers)
        else:
            check_places("trainer", Path(arguments.get("default_root_dir") or "lightning_logs"), writers)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        """The Trainer, with our progress bar."""
        given = config.get("callbacks") or []
        given = given if isinstance(given, list) else [given]
        config["callbacks"] = with_progress_bar(given, config.get("enable_progress_bar") is not False)
        return super()._instantiate_trainer(config, callbacks)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """What the Trainer's method is given: its own table is not printed, but ours."""
        given = super()._prepare_subcommand_kwargs(subcommand)
        self._prints = bool(given.get("verbose"))
        return given | ({"verbose": False} if "verbose" in given else {})

    def after_validate(self) -> None:
        """Print what was measured."""
        self._print_measures()

    def after_test(self) -> None:
        """Print what was measured."""
        self._print_measures()

    def _print_measures(self) -> None:
        if self._prints and self.trainer.is_global_zero and self.trainer.callback_metrics:
            rows = [[name, float(value)] for name, value in self.trainer.callback_metrics.items()]
            print(f"\n{format_table(['measure', 'value'], rows)}\n", flush=True)

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
        assert isinstance(self.model, TrainedModule)
        share_the_cores(self.trainer)
        path = self.config[self.subcommand].ckpt_path
        if path and not (self.subcommand == "fit" and path in ("last", "hpc")):  # Lightning's words for what it finds
            path = find_tensors(path)
            check_weights(path, self.model)
            self.config_init[self.subcommand].ckpt_path = str(path)
        elif not path:
            self.model.take({})
            if self.subcommand != "fit" and self.model.starts_fresh:
                raise UserError(
                    f"{self.subcommand}: no weights but random ones; give --run_dir RUN, --ckpt_path FILE or "
                    "--model.init_from FILE"
                )


class _LightningParser(OneSentenceParser, LightningArgumentParser):
    """LightningCLI's parser, brief."""


def run(arguments: list[str]) -> None:
    """Run `fit`, `validate`, `test` or `predict` with its options."""
    try:
        _run(arguments)
    except RuntimeError as error:
        lost = lost_process(error)
        if lost is None:
            raise
        raise lost from error


def _run(arguments: list[str]) -> None:
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
        data = read_config(folder / "config.yaml")[1].get("data")
        if isinstance(data, dict) and own_cache(data, folder / "config.yaml") != data:
            meant += ["--data.init_args.cache_dir", "null"]
    arranged, _ = configs_first(rest)
    texts = [argument for argument in arranged if argument.startswith("--config=")]
    return [arguments[0], *texts, *meant, *arranged[len(texts) :]]
