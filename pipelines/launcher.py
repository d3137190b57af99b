"""How the processes of a run on several devices are started."""

import os
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from pipelines.processes import name_parent, watch_children, watch_parent


class WatchedLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, whose processes end with each other and say why.

    Lightning's own watch kills the first process without a word, and no other one where the first is killed.
    """

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start the other processes, watch them, call the function."""
        # before Lightning divides the cores of the machine, whatever a control group leaves of them
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        environment = self.cluster_environment
        if environment.creates_processes_externally:
            watch_parent()
        else:
            environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
            name_parent()
            # from now on they count as started from outside, so that Lightning neither starts nor watches any
            self._call_children_scripts()
            watch_children(self.procs)
        return super().launch(function, *args, **kwargs)


def watch_processes(trainer: pl.Trainer) -> None:
    """Have a Trainer start its processes by a `WatchedLauncher`, where it starts any."""
    launcher = trainer.strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        trainer.strategy._launcher = WatchedLauncher(
            launcher.cluster_environment, launcher.num_processes, launcher.num_nodes
        )
