"""A process that W&B's agent started for a sweep: the run of the whole pipeline is the sweep's, phases have their own.

W&B gives every run of such a process the one identity that the sweep has chosen, whatever is asked for.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")

#: The environment variables of the sweep, while the process is out of it.
_of_sweep: dict[str, str] = {}
_inside = False


def leave_sweep() -> None:
    """Let the runs that follow have identities of their own."""
    global _inside
    if _inside:
        import wandb

        wandb.teardown()
        _inside = False
    if "WANDB_SWEEP_ID" in os.environ:
        _of_sweep.update({name: os.environ.pop(name) for name in _VARIABLES if name in os.environ})


@contextmanager
def in_sweep() -> Iterator[bool]:
    """Let the run that is begun in the block be the sweep's; gives whether there is a sweep."""
    global _inside
    if not _of_sweep:
        yield False
        return
    import wandb

    wandb.teardown()  # it reads the environment once
    os.environ.update(_of_sweep)
    _inside = True
    try:
        yield True
    finally:
        for name in _of_sweep:
            os.environ.pop(name, None)
