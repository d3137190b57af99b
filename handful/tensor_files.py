"""Files of tensors: found in folders, read without unpickling what a stranger wrote, refused in one sentence."""

import contextlib
import mmap as mmap_module
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from handful.errors import UserError
from handful.file_digest import file_digest, record_checksum
from handful.file_kinds import instead_of_a_file
from handful.record_files import read_json

#: Names that are taken where a folder holds several files, the first of them that is there.
CHECKPOINTS = ("best.ckpt", "model.ckpt", "last.ckpt", "model.safetensors", "pytorch_model.bin")

#: Device, number, size and time of writing of a file.
Version = tuple[int, int, int, int]

#: What every archive begins with that torch reads as one.
_ZIP = b"PK\x03\x04"

#: What to do with a file that holds more than tensors.
_REMEDY = "save its tensors alone, torch.save(model.state_dict(), FILE), where they can be loaded"
_SCRIPT = f"not a readable file of weights (a TorchScript archive, which holds code; {_REMEDY})"

#: The name of a function in a pickle that would be called with a number of bytes.
_RESERVES = re.compile(rb"c(builtins|__builtin__)\nbytearray\n")
_READ = mmap_module.ACCESS_READ

#: Ends of the names of files of weights.
SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors", ".bin", ".tar")


def find_tensors(path: str | Path) -> Path:
    """The one file of weights that a path means: itself, or the only one in a folder or in the folders inside it.

    Raises:
        UserError: a folder holds none, or several of which none has a usual name.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for folders in ([path], sorted(inner for inner in path.iterdir() if inner.is_dir())):
        found = [file for folder in folders for file in _of_folder(folder)]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(str(file.relative_to(path)) for file in found[:6]) + (", …" if len(found) > 6 else "")
            raise UserError(f"{path}: holds {len(found)} files of weights; give one of them: {some}")
    raise UserError(f"{path}: a folder without a file of weights ({', '.join(SUFFIXES)})")


def _of_folder(folder: Path) -> list[Path]:
    usual = next((folder / name for name in CHECKPOINTS if (folder / name).is_file()), None)
    if usual is not None:
        return [usual]
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())


def read_tensors(path: Path, ours: bool = True, mmap: bool = False) -> Any:
    """The content of a file of tensors and plain values.

    Args:
        path: of the file; of a finished phase's folder, it must be the one that the phase finished with.
        ours: whether a checkpoint of Handful is meant, for the sentence, rather than any file of weights.
        mmap: leave the tensors on the disk until they are used.

    Raises:
        UserError: there is no such file, it is damaged, or holds other things.
    """
    if not path.is_file():
        wanted = "checkpoint" if ours else "file of weights"
        raise UserError(f"{path}: there is no such {wanted}{instead_of_a_file(path)}")
    held = _held.get(path) if not mmap else None
    if held is not None and held[0] == _version(path):
        return held[1]
    if not check_digest(path) and not mmap:
        check_sums(path)
    check_parts(path)
    version = _version(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap or None)
        if path in _held:
            _held[path] = version, content
        return content
    except Exception as error:  # torch and safetensors raise many kinds
        kind = "a checkpoint written by Handful" if ours else "a readable file of weights"
        raise UserError(f"{path}: not {kind} ({_reason(path, error)})") from error


#: Files that are held in memory once they are read, with the version that was read; None before.
_held: dict[Path, tuple[Version, Any] | None] = {}

#: Files whose check sums were found to be right, with the version that was looked at.
_verified: dict[Path, Version] = {}


def _version(path: Path) -> Version:
    """What changes when a file is written again."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def read_once(path: Path | None) -> Iterator[None]:
    """Let a file that several parts of a program read in the block be read once; `take_held` lets go of it.

    Args:
        path: of the file; None for none. Its content must not be changed by whoever reads it.
    """
    if path is not None:
        _held[path] = None
    try:
        yield
    finally:
        _held.pop(path, None)  # type: ignore[arg-type]


def take_held(path: Path) -> Any:
    """Return the content of a file that `read_once` holds, to be changed at will, and hold it no longer; else None."""
    held = _held.get(path)
    if held is None or held[0] != _version(path):
        return None
    _held[path] = None
    return held[1]


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, and what to do where it holds objects of classes."""
    try:
        classes = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # as many kinds, for the same damage
        classes = []
    if classes:
        some = ", ".join(sorted(classes)[:3]) + (", …" if len(classes) > 3 else "")
        return f"it needs the class {some}, and only tensors and plain values are read; {_REMEDY}"
    return type(error).__name__


def check_sums(path: Path) -> None:
    """Refuse a file of `torch.save` in which a bit has changed since; torch reads it without looking at the sums.

    Files of other kinds, and those that were written without check sums, are taken as they are.

    Raises:
        UserError: names the file and the part of it.
    """
    version = _version(path)
    if _verified.get(path) == version:
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError):  # no archive: whoever reads it says so
        return
    except NotImplementedError as error:  # its list of parts asks for what no such file has
        raise UserError(f"{path}: damaged since it was written: its list of parts cannot be read") from error
    with archive:
        for part in archive.infolist():
            if part.CRC and part.compress_type == zipfile.ZIP_STORED:
                try:
                    with archive.open(part) as stream:
                        while stream.read(2**20):
                            pass
                except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
                    where = f"part {part.filename!r:.80}"
                    raise UserError(f"{path}: damaged since it was written: {where} has another check sum") from error
    _verified[path] = version


def check_parts(path: Path) -> None:
    """Refuse a file of `torch.save` that takes more memory than it has bytes, which none that was saved does.

    Packed parts, parts that share their bytes, and the one function that torch's reader calls with a size of memory.

    Raises:
        UserError: says so.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) == _ZIP:  # torch reads some archives that Python does not
                raise UserError(f"{path}: damaged since it was written: its list of parts cannot be read") from error
            found = path.stat().st_size > 0 and _RESERVES.search(mmap_module.mmap(file.fileno(), 0, access=_READ))
    else:
        with archive:
            parts = archive.infolist()
            if any(part.filename.endswith("/constants.pkl") for part in parts):
                raise UserError(f"{path}: {_SCRIPT}")
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise UserError(
                    f"{path}: its parts are packed, and torch.save packs none; read it with torch.load and write it "
                    "again with torch.save"
                )
            if sum(part.file_size for part in parts) > path.stat().st_size:
                raise UserError(f"{path}: its parts share their bytes, which those of torch.save never do; not read")
            found = None
            for part in parts:
                if part.filename.lower().endswith("data.pkl"):  # torch looks for it in any case
                    with contextlib.suppress(zipfile.BadZipFile, EOFError, ValueError):  # said by its reader
                        found = found or _RESERVES.search(archive.read(part))
    if found:
        raise UserError(f"{path}: it reserves memory by a bytearray, which no file of tensors needs; not read")


def check_digest(path: Path) -> bool:
    """Refuse a file of a finished phase that is not the one it finished with, where its record holds a digest.

    Returns:
        Whether there is a digest.

    Raises:
        UserError: the file was damaged or changed, or the record is none of a phase or was changed itself.
    """
    record_file = path.parent / "done.json"
    if not record_file.is_file():
        return False
    try:
        record = read_json(record_file)
    except ValueError as error:
        raise UserError(f"{record_file}: not a JSON file ({error})") from error
    files = record.get("files", {}) if isinstance(record, Mapping) else None
    expected = files.get(path.name, {}) if isinstance(files, Mapping) else None
    if not isinstance(expected, Mapping):
        raise UserError(f"{record_file}: not a record written by Handful, or damaged since; {path.name} is not read")
    if isinstance(record, Mapping) and record_checksum(record) != record.get("checksum", record_checksum(record)):
        raise UserError(f"{record_file}: damaged or changed since it was written; {path.name} is not read")
    if expected and file_digest(path) != expected.get("sha256"):
        raise UserError(f"{path}: damaged or changed since the phase finished")
    return bool(expected)
