"""`python train.py export` and `push`: a run's model as a folder to hand on."""

from pathlib import Path
from typing import Literal

from handful.errors import UserError
from handful.export import export as export_model
from handful.export.hub import check_repo_id, upload
from handful.loading import load
from handful.networks import Classifier
from pipelines.finished_run import Run
from pipelines.output_folder import output_folder


def export(
    run_dir: str,
    to: Literal["safetensors", "onnx", "torch_export"] = "safetensors",
    stage: str | None = None,
    out: str | None = None,
) -> Path:
    """Write a run's model as a folder to hand on.

    The folder holds `model.safetensors` (read by `handful.load`), `config.json`, the model card `README.md`, and the
    model as `model.onnx` or `model.pt2`, normalisation inside.

    Args:
        run_dir: folder of the run.
        to: "safetensors", "onnx" or "torch_export".
        stage: whose model: a stage or phase of the run; the last finished one if not given.
        out: folder to write to; RUN_DIR/export if not given.

    Returns:
        The file of the model.

    Raises:
        UserError: no such run, stage or format; a package that is missing; no folder to write to.
    """
    run = Run(run_dir)
    phase = run.phase_of(stage)
    model = model_of(run, phase)
    folder = output_folder(out, run.folder / "export")
    name = str(run.config.get("name", run.folder.name))
    return export_model(model, folder, to, run.results, name, run.stage_of(phase))


def push(
    run_dir: str,
    repo_id: str,
    to: Literal["safetensors", "onnx", "torch_export"] = "safetensors",
    stage: str | None = None,
    out: str | None = None,
    private: bool = True,
    dry_run: bool = False,
) -> Path:
    """Export a run's model and upload the folder to the Hugging Face Hub.

    Args:
        run_dir: folder of the run.
        repo_id: of the model on the Hub, OWNER/NAME.
        to: "safetensors", "onnx" or "torch_export".
        stage: whose model; the last finished one if not given.
        out: folder to write to before; RUN_DIR/export if not given.
        private: whether a new repository is private.
        dry_run: write the folder and say what would be uploaded; nothing is sent.

    Returns:
        The folder.

    Raises:
        UserError: as `export`; a name that the Hub would refuse; nobody is logged in; the Hub cannot be reached.
    """
    check_repo_id(repo_id)
    folder = export(run_dir, to, stage, out).parent
    files = [folder / name for name in _files(folder)]
    for file in files:
        print(f"  {'would upload' if dry_run else 'uploading'} {file.name}  {_size(file)}  to {repo_id}", flush=True)
    if dry_run:
        return folder
    print(f"  uploaded to {upload(folder, [file.name for file in files], repo_id, private)}", flush=True)
    return folder


def _size(file: Path) -> str:
    count = file.stat().st_size
    return f"{count / 2**20:.2f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def _files(folder: Path) -> list[str]:
    """What an export writes, of what is there."""
    known = ("README.md", "config.json", "model.safetensors", "model.onnx", "model.pt2", "names.csv")
    return [name for name in known if (folder / name).is_file()]


def model_of(run: Run, phase: str) -> Classifier:
    """The classifier of a phase, which knows its network, its inputs and its features' names.

    Raises:
        UserError: it holds none.
    """
    try:
        model = load(run.folder / phase / "best.ckpt")
    except UserError as error:
        raise UserError(f"--stage: {phase} of {run.folder} cannot be handed on: {error}") from error
    model.inputs = model.inputs or run.inputs()
    return model
