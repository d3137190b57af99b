"""Running one phase without a pipeline."""

from pathlib import Path

from handful.atomic import write_json
from lightning_modules import TrainedModule
from pipelines.phase_folder import PhaseFolder
from pipelines.phases import Context, Train


def run_phase(what, trainer, datamodule, resume=None, earlier=None):
    """Run a phase, or train a module, in the Trainer's folder; its rows are written as a pipeline writes them."""
    phase = Train(what) if isinstance(what, TrainedModule) else what
    folder = PhaseFolder(Path(trainer.default_root_dir))
    context = Context(trainer, datamodule, earlier or {}, folder, trainer.max_epochs, resume)
    produced = phase.run(context)
    trainer.strategy.barrier("finished")  # as the runner does
    if produced.rows and trainer.is_global_zero:
        write_json(folder.stages_file, produced.rows)
    return produced
