"""`python train.py demo`: a run's model on a page of one's own machine."""

import os
from pathlib import Path

from handful.demo import build_page
from handful.errors import UserError
from pipelines.export import model_of
from pipelines.finished_run import Run


def demo(run_dir: str, stage: str | None = None, port: int = 7860, share: bool = False) -> Path:
    """Serve a page: drop a picture, see what decided, move a feature and watch the class change. Ctrl-C ends it.

    Args:
        run_dir: folder of the run.
        stage: whose model: a stage or phase of the run; the last finished one if not given.
        port: of this machine.
        share: whether Gradio makes it public through its own servers.

    Returns:
        The folder of the run.

    Raises:
        UserError: no such run or stage, Gradio is missing, or the port is taken.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    run = Run(run_dir)
    phase = run.phase_of(stage)
    name = str(run.config.get("name", run.folder.name))
    page = build_page(model_of(run, phase), f"What decides? {name}, {stage or phase}")
    try:
        _, here, public = page.launch(
            server_name="127.0.0.1", server_port=port, share=share, quiet=True, prevent_thread_lock=True,
            footer_links=[],
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"--port: {port} is not available ({error}); choose another port") from error
    print(f"  {here}  (Ctrl-C ends it)", flush=True)
    if public:
        print(f"  {public}  (for everybody who knows it)", flush=True)
    page.block_thread()
    return run.folder
