"""A look at the values of options before imports of seconds: names that nothing has are refused at once.

What passes here is checked where it is used, in every detail.
"""

import re
import sys
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from handful.errors import UserError, did_you_mean
from handful.file_kinds import check_there
from handful.record_files import MAX_CONFIG, read_text
from pipelines.find_run import find_run
from pipelines.ranges import OF_COMMANDS, check_range

_ROOT = Path(__file__).parents[2]

#: Option → folder whose files register names for it, how they do, and the module by which others may have done so.
_REGISTERED = {
    "methods": ("handful/attribution/methods", r'^@register\("(\w+)"', "handful.attribution.registry"),
    "measures": ("pipelines/measures", r'^@register_measure\("(\w+)", group="(\w+)"', "pipelines.measures.registry"),
}

#: Further names: short ones, and those for all or none.
_FURTHER = {"methods": ("ig", "mp", "none"), "measures": ("all",)}


def check_values(values: Namespace, others: bool = False) -> None:
    """Refuse runs, images, stages, methods and measures that are not there.

    Args:
        values: of the command's options.
        others: whether other packages may register methods and measures, which are then checked where they are used.

    Raises:
        UserError: names the option or the folder, and what is probably meant.
    """
    for folder in (values.get("run_dir"), *(values.get("run_dirs") or ())):
        if folder is not None:
            find_run(folder, quiet=True)
    for option, known in OF_COMMANDS.items():
        if not (option == "images" and isinstance(values.get(option), str)):  # a number for some, a path for others
            check_range(f"--{option}", known, values.get(option))
    if isinstance(images := values.get("images"), str):
        check_there("--images", Path(images).expanduser())
    for option in () if others else _REGISTERED:
        if (given := values.get(option)) is not None:
            _check_registered(option, given)
    stage = values.get("stage") or values.get("phase")
    if values.get("run_dir") is not None and isinstance(stage, str):
        check_stage(values.run_dir, stage)


def check_stage(run_dir: str | Path, stage: str) -> None:
    """Refuse a stage that no phase of a run can hold.

    Raises:
        UserError: lists the finished phases.
    """
    run = find_run(run_dir, quiet=True)[0]
    finished = [file.parent.name for file in sorted(run.glob("*/done.json"))]
    # names of stages stand in the config, or are the usual ones
    try:
        named = _texts(read_text(run / "config.yaml", max_bytes=MAX_CONFIG)) | {"dense", "sparse", "finetuned"}
    except (OSError, ValueError, yaml.YAMLError):  # said where it is read
        return
    if finished and stage not in (*finished, *named):
        near = did_you_mean(stage, finished)
        raise UserError(f"{run}: no finished stage {stage!r}; there are {', '.join(finished)}{near}")


def _texts(config: str) -> set[str]:
    """All keys and values of a config; no alias is followed."""
    return {event.value for event in yaml.parse(config) if isinstance(event, yaml.ScalarEvent)}


def _check_registered(option: str, given: Any) -> None:
    """Refuse a name that no file of ours registers, where nobody else can have registered any."""
    folder, pattern, module = _REGISTERED[option]
    if module in sys.modules:
        return
    known: dict[str, None] = {}
    for file in sorted((_ROOT / folder).glob("*.py")):
        for names in re.findall(pattern, file.read_text(encoding="utf-8"), re.MULTILINE):
            known |= dict.fromkeys([names] if isinstance(names, str) else names)
    everything = [*known, *_FURTHER[option]]
    for part in given.split(",") if isinstance(given, str) else given:
        name = str(part).strip()
        if name and name not in everything:
            near = did_you_mean(name, everything)
            raise UserError(f"--{option}: there is no {name!r}{near}; there are {', '.join(sorted(everything))}")
