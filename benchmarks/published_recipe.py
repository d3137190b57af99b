"""Whether a run followed the published recipe, in which row of the tables: by its resolved config."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

_CONFIGS = Path(__file__).parent.parent / "configs" / "sldd"

#: Values that say where or how fast a run was, and not what it did.
_FREE = {"callbacks", "eval_batch_size", "num_workers", "root", "seed"}
#: What shortens a training or measures a part of the images, with the values by which it does not.
_WHOLE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), (None, 1.0)),
    "overfit_batches": (None, 0), "fast_dev_run": (None, False), "max_steps": (None, -1), "max_time": (None,),
    "accumulate_grad_batches": (None, 1),
}  # fmt: skip


def row_of(config: Mapping[str, Any]) -> str | None:
    """Return the row of the tables that a run belongs to: "L_div", "without L_div" or "MCL".

    Args:
        config: of the run, as it was resolved.

    Returns:
        None where anything that the config says differs from the recipe: sizes, epochs, optimizers, losses of one
        phase alone, a part of the batches.
    """
    recipe = _yaml("recipe.yaml")
    if not _agree(config.get("data") or {}, recipe["data"] | {"class_path": None}):
        return None
    network, phases = config.get("network") or {}, config.get("phases") or {}
    # as configs/model has them; a file of the weights is as good
    if not network.get("pretrained", True) or network.get("dropout", 0.2) != 0.2:
        return None
    for trainer in [config.get("trainer") or {}, *((phase or {}).get("trainer") or {} for phase in phases.values())]:
        if any(trainer.get(key, whole[0]) not in whole for key, whole in _WHOLE.items()):
            return None
    rows = (("L_div", recipe["phases"]), ("MCL", _with("mcl.yaml", recipe)), ("without L_div", _with("", recipe)))
    own_loss = _arguments(phases, "dense").get("mutual_channel") is not None
    return next((row for row, wanted in rows if (row == "MCL") == own_loss and _agree(phases, wanted)), None)


def _with(name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's phases without L_div, and with the loss of another config where one is named."""
    phases: dict[str, Any] = deepcopy(recipe["phases"])
    for phase in phases:
        if "beta" in _arguments(phases, phase):
            _arguments(phases, phase)["beta"] = 0.0
    if name:
        _arguments(phases, "dense").update(_yaml(name)["phases"]["dense"]["module"]["init_args"])
    return phases


def _arguments(phases: Mapping[str, Any], phase: str) -> dict[str, Any]:
    found: dict[str, Any] = ((phases.get(phase) or {}).get("module") or {}).get("init_args") or {}
    return found


def _agree(given: Any, wanted: Any) -> bool:
    """Whether values do not contradict those that are wanted; what is not given is as it should be."""
    if wanted is None:
        return True
    if isinstance(wanted, Mapping):
        if not isinstance(given, Mapping):
            return given is None
        return all(_agree(given[key], value) for key, value in wanted.items() if key in given and key not in _FREE)
    if isinstance(wanted, str) and isinstance(given, str):  # classes are also called by the end of their path
        return given == wanted or given.rpartition(".")[2] == wanted.rpartition(".")[2]
    return bool(given == wanted)


def _yaml(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((_CONFIGS / name).read_text(encoding="utf-8")))
