"""Whether a run followed the published recipe, in which row of the tables: by its resolved config."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

_CONFIGS = Path(__file__).parent.parent / "configs" / "sldd"

#: The rows of the tables, with the config that makes each of a cell's.
ROWS = {"L_div": "", "without L_div": "without_l_div.yaml", "MCL": "mcl.yaml"}
#: Values that say where or how fast a run was, what it drew by chance or was looked at for, and not what it did.
_FREE = {
    "cache", "cache_dir", "callbacks", "capturable", "certainty", "compile_backbone", "differentiable",
    "eval_batch_size", "foreach", "fused", "keep_features", "max_megapixels", "monitor", "num_workers", "root",
    "seed", "trainer",
}  # fmt: skip
#: What shortens a training or measures a part of the images, with the values by which it does not.
_WHOLE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), (None, 1.0)),
    "overfit_batches": (None, 0), "fast_dev_run": (None, False), "max_steps": (None, -1), "max_time": (None,),
    "accumulate_grad_batches": (None, 1),
}  # fmt: skip


def row_of(config: Mapping[str, Any], data: str, backbone: str) -> str | None:
    """Return the row of the tables that a run belongs to: "L_div", "without L_div" or "MCL".

    Args:
        config: of the run, as it was resolved.
        data: of the cell, as the configs call it.
        backbone: likewise.

    Returns:
        None where anything in the config differs from the cell's: sizes, epochs, optimizers, the cut of the sparse
        layer, losses of one phase alone, other weights, a part of the batches.
    """
    if not (_CONFIGS / f"{data}_{backbone}.yaml").is_file():
        return None
    phases = config.get("phases") or {}
    for trainer in [config.get("trainer") or {}, *((phase or {}).get("trainer") or {} for phase in phases.values())]:
        if any(trainer.get(key, whole[0]) not in whole for key, whole in _WHOLE.items()):
            return None
    network = dict(config.get("network") or {})
    if network.get("pretrained"):
        network["pretrained"] = True  # a file of the weights is as good
    given = {"data": config.get("data") or {}, "network": network, "phases": phases}
    return next((row for row in ROWS if _agrees(given, _resolved(data, backbone, row))), None)


@cache
def _resolved(data: str, backbone: str, row: str) -> dict[str, Any]:
    """A cell's own config with all that it leaves to defaults."""
    from pipelines.parse import parse_pipeline  # imports torch

    names = [f"{data}_{backbone}.yaml", *filter(None, [ROWS[row]])]
    return asdict(parse_pipeline([part for name in names for part in ("--config", str(_CONFIGS / name))])[0])


def _agrees(given: Any, wanted: Any) -> bool:
    """Whether nothing that is given differs from what is wanted."""
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        return all(_agrees(value, wanted.get(key)) for key, value in given.items() if key not in _FREE)
    if isinstance(wanted, str) and isinstance(given, str):  # classes are also called by the end of their path
        return given == wanted or given.rpartition(".")[2] == wanted.rpartition(".")[2]
    return bool(given == wanted) or (wanted is None and given in ([], False))
