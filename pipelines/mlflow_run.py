"""The MLflow run of a phase, which a resumed phase continues without logging anything twice."""

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.mlflow_names import mlflow_name
from handful.atomic import write_text
from handful.errors import UserError
from handful.record_files import read_text
from handful.text import safe_text
from pipelines.nested import flat

#: MLflow asks a server that does not answer seven times, for minutes, at every step: a logger costs no phase.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}

#: Longest value of a parameter.
_LONGEST = 250


class MLflowRun(MLFlowLogger):
    """Lightning's logger, under measures' names that MLflow takes, for a run that may be continued.

    MLflow deletes no measure. A phase that is resumed computes the steps after its checkpoint again, to the same
    digits; those that its run has already are not logged twice.

    Args:
        resumed_step: the step that the phase is resumed from; None where it begins.
        **kwargs: Lightning's.
    """

    def __init__(self, resumed_step: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._resumed_step = resumed_step
        self._logged_until: dict[str, int] | None = None

    @property
    def experiment(self) -> Any:
        """The client. Lightning makes its address that of the whole process, the next run's and the user's own."""
        if self._initialized:
            return super().experiment
        with _address_kept():
            return super().experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log what the run does not have yet."""
        named = {mlflow_name(name): value for name, value in metrics.items()}
        until = self._until()
        fresh = {name: value for name, value in named.items() if (step or 0) > until.get(name, -1)}
        if fresh:
            super().log_metrics(fresh, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Log parameters; those that a continued run has with another value, which MLflow keeps, as tags."""
        params = vars(params) if isinstance(params, Namespace) else params
        given = {mlflow_name(name): value for name, value in flat(params, "/").items()}  # as Lightning names them
        known: dict[str, str] = {}
        if self._resumed_step is not None:
            known = self.experiment.get_run(self.run_id).data.params
        for name, value in given.items():
            if name in known and known[name] != str(value)[:_LONGEST]:
                self.experiment.set_tag(self.run_id, f"resumed_with.{name}", str(value)[:_LONGEST])
        super().log_hyperparams({name: value for name, value in given.items() if name not in known})

    def _until(self) -> dict[str, int]:
        """The last step of every measure that the run has at the step that the phase is resumed from or later."""
        if self._logged_until is None:
            self._logged_until = {}
            if self._resumed_step is not None:
                client, run = self.experiment, self.run_id
                for name in client.get_run(run).data.metrics:
                    last = max((one.step for one in client.get_metric_history(run, name)), default=-1)
                    if last >= self._resumed_step:
                        self._logged_until[name] = last
        return self._logged_until


@contextmanager
def _address_kept() -> Iterator[None]:
    """Keep the address that the process has for MLflow, in its environment and in MLflow itself."""
    import mlflow

    name = "MLFLOW_TRACKING_URI"
    given = os.environ.get(name)
    chosen = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None if chosen == given else chosen)  # type: ignore[arg-type]
        os.environ.pop(name, None)
        if given is not None:
            os.environ[name] = given


def tracking_uri(run_folder: Path) -> str:
    """The server of MLFLOW_TRACKING_URI, or plain files in the folder of the pipeline's run."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is not None:
        return uri
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # plain files need no database
    return _own_uri(run_folder)


def _own_uri(run_folder: Path) -> str:
    return (run_folder / "mlruns").resolve().as_uri()


def mlflow_run(run: str, phase: str, folder: Path, resumed_step: int | None) -> MLflowRun:
    """A run in the experiment of the pipeline; a resumed phase continues its own.

    Args:
        run: name of the pipeline.
        phase: its phase.
        folder: of the phase, which keeps the run's identity.
        resumed_step: the step that the phase is resumed from; None where it begins.
    """
    from mlflow.exceptions import MlflowException

    uri, kept = tracking_uri(folder.parent), folder / "mlflow_id"
    known = read_text(kept).strip() if kept.is_file() else None
    own = uri == _own_uri(folder.parent)
    if known is not None:
        logger = MLflowRun(resumed_step, tracking_uri=uri, run_id=known)
        try:
            if own:
                _check_place(logger, folder.parent)
            logger.experiment.update_run(known, status="RUNNING")
            return logger
        except MlflowException as error:
            rank_zero_warn(f"{kept}: MLflow at {uri} has no such run ({error}); the phase gets a new one")
    logger = MLflowRun(
        None, experiment_name=run, run_name=f"{run}-{phase}", tracking_uri=uri, tags={"phase": phase}
    )
    if logger.run_id is not None:
        if own:
            _check_place(logger, folder.parent)
        write_text(kept, logger.run_id)
    return logger


def _check_place(logger: MLflowRun, run_folder: Path) -> None:
    """Refuse records of MLflow in a run's folder that send its files elsewhere: the folder may be from elsewhere.

    Raises:
        UserError: they do.
    """
    place = str(logger.experiment.get_run(logger.run_id).info.artifact_uri)
    parts = urlparse(place)
    inside = Path(unquote(parts.path)).resolve().is_relative_to((run_folder / "mlruns").resolve())
    if parts.scheme not in ("", "file") or parts.netloc or not inside:
        raise UserError(
            f"{run_folder / 'mlruns'}: sends files to {safe_text(place)}, which is not in it; remove the folder to log "
            "anew"
        )
