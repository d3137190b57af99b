"""`python train.py pipeline`: all phases of a config, each resumable, and the report at the end."""

import warnings
from dataclasses import replace
from pathlib import Path

from jsonargparse import Namespace

import pipelines.report
from pipelines.config import Pipeline
from pipelines.finished_run import Run
from pipelines.option_parser import OneSentenceParser
from pipelines.parse import pipeline_of, prepare_pipeline
from pipelines.ranks import global_rank
from pipelines.runner import Runner
from pipelines.seeds import parse_seeds, run_seeds
from pipelines.summary_run import log_summary
from pipelines.trainer_arguments import on_this_machine


def prepare(arguments: list[str]) -> tuple[OneSentenceParser, list[str]]:
    """The parser, with the phases of the configs, and the arguments as it takes them."""
    return prepare_pipeline(arguments)


def run(values: Namespace) -> None:
    """Run the pipeline, then write its report."""
    pipeline, start_at = pipeline_of(values)
    pipeline.trainer = on_this_machine(pipeline.trainer)
    if values.seeds is not None:
        seeds = parse_seeds(values.seeds)
        folder = run_seeds(pipeline, seeds, start_at)
        if global_rank() == 0:
            for run_dir in (folder / f"seed_{seed}" for seed in seeds):
                _write_report(replace(pipeline, run_dir=str(run_dir)), run_dir)
        return
    runner = Runner(pipeline, start_at)
    runner.run()
    if global_rank() == 0:
        _write_report(pipeline, runner.folder)


def _write_report(pipeline: Pipeline, folder: Path) -> None:
    """The report of a run that has just ended; a picture that fails costs the report, never the run."""
    try:
        content = pipelines.report.content_of(Run(folder))
        print(f"  report: {pipelines.report.write_report(content, folder / 'report')}", flush=True)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        warnings.warn(f"the report could not be written ({type(error).__name__}: {first})", stacklevel=2)
        return
    log_summary(pipeline, folder, content)
