"""What one process decides for all of a run that torchrun or SLURM has started, before these have met."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from handful.errors import UserError
from pipelines.processes import started_by_a_run

#: Seconds that the others wait for process 0, which may have many images to look at.
_PATIENCE = timedelta(minutes=30)
# It must outlive the reading of the others; the process group that is made later shares its port.
_stores: list[Store] = []


def decided_once(name: str, decide: Callable[[], Any]) -> Any:
    """Let process 0 decide, and return what it has decided on every process.

    Each process of such a run reads the same command; what depends on more than that (which hub answers, what a cache
    holds) must not be looked up by each. A run that starts its processes itself decides before there are others.

    Args:
        name: of the decision, once in a run.
        decide: called on process 0; its result must be JSON.

    Raises:
        UserError: on every process, what process 0 has met.
    """
    environment = _from_outside()
    if environment is None:
        return decide()
    store = _store(environment)
    if environment.global_rank() != 0:
        value, failure = json.loads(store.get(name))
        if failure:
            raise UserError(failure)
        return value
    failure = "process 0 of this run has failed; its error is printed above"
    value = None
    try:
        value, failure = decide(), ""
    except UserError as error:
        failure = str(error)
        raise
    finally:
        store.set(name, json.dumps([value, failure]))
    return value


def _from_outside() -> ClusterEnvironment | None:
    """The launcher that has started several processes of this run; None where there is one, or the run starts them."""
    if started_by_a_run():
        return None
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            try:
                environment = kind()
            except RuntimeError as error:  # options of srun that Lightning does not take
                raise UserError(" ".join(str(error).split())) from error
            return environment if environment.world_size() > 1 else None
    return None


def _store(environment: ClusterEnvironment) -> Store:
    """Values by name that all processes see; where the process group will meet as well."""
    if not _stores:
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)
        rank, count = environment.global_rank(), environment.world_size()
        store, _, _ = next(rendezvous("env://", rank, count, timeout=_PATIENCE))
        store.set_timeout(_PATIENCE)
        _stores.append(PrefixStore("handful", store))
    return _stores[0]
