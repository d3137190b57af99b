"""Help of the commands whose full list of options takes seconds: what a person needs, at once."""

import textwrap

#: Columns of the help, and the one where the text begins.
_COLUMNS, _TEXT = 100, 34

_CLASS = "the class, and its arguments as options beneath it"

#: Of all these commands.
_COMMON = {
    "-c, --config FILE": "options from a YAML file; several are merged, later ones win; options win over files",
    "--print_config": "print the complete configuration and end",
    "--trust PACKAGE": "let the config name classes of a package of your own",
    "--help_all": "every option there is; with --config also those of its classes (takes seconds)",
}

_OF_A_RUN = {
    "--run_dir RUN": "a finished run, in the place of --config, --model and --ckpt_path",
    "--phase PHASE": "of that run; the last finished one if not given",
}

_OF_LIGHTNING = {
    "--model CLASS, --model.NAME VALUE": f"{_CLASS}: Dense, Sparsify, Finetune, InfoMaxPlugin, …",
    "--data CLASS, --data.NAME VALUE": f"{_CLASS}: ImageFolder, ToyBirds, CUB200, …",
    "--trainer.NAME VALUE": "an argument of Lightning's Trainer, such as max_epochs, accelerator, devices, precision",
    "--ckpt_path FILE": "a checkpoint to read",
    "--seed_everything SEED": "the seed; 0 if not given",
}

#: Command → what it does, an example, its options.
_HELP: dict[str, tuple[str, str, dict[str, str]]] = {
    "pipeline": (
        "Run all phases of a config, each resumable: the same command again resumes where it stopped.",
        "python train.py pipeline --data.root photos/\n"
        "  python train.py pipeline --config configs/quickstart.yaml --phases.dense.max_epochs 5",
        {
            "--data.root FOLDER": "your images: a folder of class folders, with or without train/ and test/, or an "
            "archive of it; without --config, the recipe for photographs runs",
            "--data CLASS, --data.NAME VALUE": f"{_CLASS}: ImageFolder, ToyBirds, CUB200, …",
            "--network.NAME VALUE": "backbone, pretrained, dropout, image_size, options …",
            "--phases.PHASE.max_epochs EPOCHS": "epochs of a phase of the config, such as dense or finetune",
            "--phases.PHASE.module.NAME VALUE": "an argument of what the phase trains or computes, such as "
            "phases.sparsify.module.n_features",
            "--phases.PHASE.callbacks, .trainer, .data, .monitor": "callbacks, and what differs in this phase",
            "--trainer.NAME VALUE": "an argument of Lightning's Trainer, for all phases",
            "--name NAME": "name of the run",
            "--run_dir RUN": "folder of the run; runs/NAME if not given",
            "--start_at PHASE": "redo from this phase on",
            "--init_from FILE": "file of weights for the first phase",
            "--phases_from RUN": "copy the finished phases of another run that are the same in this one",
            "--seed SEED, --seeds SEED,SEED": "the seed, 0 if not given; or one run for each, with mean and spread",
            "--loggers NAMES": "beside CSV: wandb, tensorboard, mlflow, with commas between; wandb if not given",
            "--wandb.NAME VALUE": "mode, project, entity",
            "--rounds.NAME VALUE": "phases that are repeated: phases, times, values",
        },
    ),
    "fit": ("Train one module.", "python train.py fit --config fit.yaml", _OF_LIGHTNING),
    "validate": (
        "Measure a module or a finished run on the validation images.",
        "python train.py validate --run_dir runs/quickstart",
        _OF_A_RUN | _OF_LIGHTNING,
    ),
    "test": (
        "Measure a module or a finished run on the test images.",
        "python train.py test --run_dir runs/quickstart --phase dense",
        _OF_A_RUN | _OF_LIGHTNING,
    ),
    "predict": (
        "Write predictions.csv for pictures of your own, or for a run's test images.",
        "python train.py predict --run_dir runs/quickstart --images photos/",
        {"--images FOLDER": "an image, or a folder that is searched for images; a run's test images if not given"}
        | _OF_A_RUN
        | {
            "--out FOLDER": "with --images: folder to write to; RUN/predict if not given",
            "--batch_size NUMBER": "with --images: pictures in a batch",
            "--sets thr|aps|hierarchy": "with --images: sets of classes, as `evaluate --conformal` has calibrated them",
        }
        | _OF_LIGHTNING,
    ),
}


def has_short_help(command: str) -> bool:
    """Whether the command's own parser takes seconds, so that it has a short help."""
    return command in _HELP


def print_short_help(command: str) -> None:
    """Print what a command does and its options."""
    does, example, options = _HELP[command]
    lines = [f"usage: train.py {command} [options]", "", does, "", f"  {example}", "", "options:"]
    for name, says in (options | _COMMON).items():
        lines += _option(name, says)
    print("\n".join(lines), flush=True)


def _option(name: str, says: str) -> list[str]:
    """An option and what it is, the text in a column of its own."""
    wrapped = textwrap.wrap(says, _COLUMNS - _TEXT)
    first = f"  {name}"
    if len(first) + 2 > _TEXT:
        return [first, *(" " * _TEXT + line for line in wrapped)]
    return [first.ljust(_TEXT) + wrapped[0], *(" " * _TEXT + line for line in wrapped[1:])]
