"""Writing measured sections into benchmarks/RESULTS.md."""

import datetime
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("RESULTS.md")

_HEAD = "# What was measured\n\nEach section is written by the command it names; nothing here is typed by hand.\n"


def machine() -> str:
    """Processor, cores, threads and versions in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        model = found.group(1) if found else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s){gpu}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def today() -> str:
    """The date, as it stands beneath every title."""
    return datetime.date.today().isoformat()


def command() -> str:
    """How this process was started: module and arguments; of a path its last part, for folders differ elsewhere."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = ["-m", spec.name.removesuffix(".__main__")] if spec is not None else [Path(sys.argv[0]).name]
    return shlex.join(["python", *module]) + "".join(f" {one}" for one in shown(sys.argv[1:]))


def shown(arguments: Sequence[str]) -> list[str]:
    """Arguments as a shell takes them; of a path its last part.

    Example:
        >>> shown(["--data.root=/home/me/birds.zip", "--network.options", "{width: 4}"])
        ['--data.root=birds.zip', '--network.options', "'{width: 4}'"]
    """
    return [shlex.quote(re.sub(r"[^=]*/", "", one)) for one in arguments]


def section_of(title: str, path: Path = RESULTS) -> str:
    """The section of that title, with it; empty where there is none."""
    parts = re.split(r"(?m)^(?=## )", path.read_text()) if path.is_file() else []
    return next((part for part in parts if part.startswith(f"## {title}\n")), "")


def write_section(title: str, lines: Sequence[str], path: Path = RESULTS) -> None:
    """Replace the section of that title, or add it; beneath the title stand date, machine, versions and the command.

    Args:
        title: of the section, without the `##`.
        lines: Markdown.
        path: the file.
    """
    text = path.read_text() if path.is_file() else _HEAD
    head = [f"## {title}", "", f"*{today()}; {machine()}*", "", f"`{command()}`", ""]
    section = "\n".join([*head, *lines]).rstrip() + "\n"
    parts = re.split(r"(?m)^(?=## )", text)
    places = [i for i, part in enumerate(parts) if part.startswith(f"## {title}\n")]
    if places:
        parts[places[0]] = section + "\n"
    else:
        parts.append(section)
    joined = "\n".join(part.rstrip() + "\n" for part in parts)
    path.write_text(joined)
