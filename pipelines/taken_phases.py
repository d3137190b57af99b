"""Finished phases of another run, taken instead of run again: heads compared on one dense training."""

import os
import stat
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from handful.atomic import DRAFT, copy_file
from handful.errors import UserError
from handful.text import safe_text
from pipelines.find_run import find_run
from pipelines.phase_folder import PhaseFolder
from pipelines.plan import Plan

#: Records of a phase, in the order in which they are copied: a folder without the last is not finished.
_RECORDS = ("started.json", "done.json")


def take_phases(plan: Plan, run: str) -> list[str]:
    """Copy the first phases of another run into this one, as far as they are those that this run asks for.

    A phase is the same where its configuration, the images, the seed and the phases before it are; the digests of its
    files are checked before and after. What this run has begun or finished itself stays.

    Args:
        plan: of this run.
        run: folder of the other run.

    Returns:
        Names of the phases that were taken.

    Raises:
        UserError: there is no such run, it is this one, its first phase is not finished or not the one that is asked
            for, or a file of a phase is damaged.
    """
    source, _ = find_run(run)
    if source.resolve() == plan.folder.resolve():
        raise UserError(f"--phases_from: {run} is this run itself")
    taken: list[str] = []
    for place, name in enumerate(plan.pipeline.phases):
        if name in plan.redo:
            break
        target, found = PhaseFolder(plan.folder / name), PhaseFolder(source / name)
        if target.done() is not None or target.started() is not None:
            continue
        reason = _obstacle(plan, name, found)
        if reason and place == 0:
            raise UserError(f"--phases_from: {found.path} {reason}; leave --phases_from out to run the phase here")
        if reason:
            rank_zero_info(f"{name}: runs here, {found.path} {reason}")
            break
        _copy(found, target)
        taken.append(name)
        rank_zero_info(f"{name}: taken from {found.path}")
    return taken


def _obstacle(plan: Plan, name: str, found: PhaseFolder) -> str:
    """Why a phase of another run is not the one that is asked for; empty if it is.

    Raises:
        UserError: its record or a file of it is damaged.
    """
    done = found.done()
    if done is None:
        return "is not there" if not found.path.is_dir() else "is not finished"
    if done["made_from"] != plan.made_from(name):
        return "was built on different earlier phases"
    differing = plan.differences(name, done["config"])
    if differing:
        key, values = next(iter(differing.items()))
        return f"was run with a different {key} ({values})"
    found.verify()
    return ""


def _copy(source: PhaseFolder, target: PhaseFolder) -> None:
    """Copy a phase's folder, its records last; a dashboard's run stays with the phase that it was of.

    Links, pipes and devices stay where they are: what they lead to is none of the phase's.
    """
    target.clear()
    target.path.mkdir(parents=True)
    left = []
    for place, folders, files in os.walk(source.path):
        here = Path(place).relative_to(source.path)
        left += [here / name for name in folders if (source.path / here / name).is_symlink()]
        folders[:] = [name for name in folders if not _stays(here / name)]
        for name in folders:
            if here / name not in left:
                (target.path / here / name).mkdir()
        for name in sorted(files):
            file = source.path / here / name
            if _stays(here / name) or (here / name in map(Path, _RECORDS) and _is_plain(file)):
                continue
            if _is_plain(file):
                copy_file(file, target.path / here / name)
            else:
                left.append(here / name)
    if left:
        rank_zero_warn(
            f"{source.path}: {', '.join(safe_text(path) for path in left[:3])}{', …' if left[3:] else ''}: links, "
            "pipes and devices are not copied"
        )
    for record in _RECORDS:
        if (source.path / record).exists() and _is_plain(source.path / record):
            copy_file(source.path / record, target.path / record)
    target.verify()


def _is_plain(file: Path) -> bool:
    return stat.S_ISREG(file.lstat().st_mode)


def _stays(path: Path) -> bool:
    return path.parts[0].startswith("wandb") or path.name.endswith(DRAFT)
