"""Files of tensors that would take more memory than they have bytes are refused unread."""

import io
import json
import pickle
import struct
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save

from handful.errors import UserError
from handful.export.folder import read_exported
from handful.networks.description import KEY
from handful.tensor_files import read_tensors


def parts(content):
    file = io.BytesIO()
    torch.save(content, file)
    with zipfile.ZipFile(file) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def write(path, content, packed=zipfile.ZIP_STORED, pickled=None):
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, data in parts(content):
            archive.writestr(name, pickled if pickled and name.endswith("data.pkl") else data)
    return path


#: 3 GiB by one call of `bytearray`, and by its older name.
RESERVES = [b"\x80\x02c" + module + b"\nbytearray\n\x8a\x05" + (3 << 30).to_bytes(5, "little") + b"\x85R."
            for module in (b"builtins", b"__builtin__")]  # fmt: skip


@pytest.mark.parametrize("suffix", [".ckpt", ".pth"])
@pytest.mark.parametrize("mmap", [False, True])
def test_packed_parts(tmp_path, suffix, mmap):
    """A file of 1.5 MB took 4.5 GB."""
    path = write(tmp_path / f"x{suffix}", {"state_dict": {"a": torch.zeros(2**20)}}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**15
    with pytest.raises(UserError, match=r"x\.\w+: its parts are packed, and torch\.save packs none"):
        read_tensors(path, mmap=mmap)


@pytest.mark.parametrize("reserves", RESERVES)
def test_memory_that_is_asked_for(tmp_path, reserves):
    path = write(tmp_path / "x.ckpt", {}, pickled=reserves)
    with pytest.raises(UserError, match="reserves memory by a bytearray"):
        read_tensors(path)
    legacy = tmp_path / "legacy.pth"
    torch.save({"a": torch.zeros(2)}, legacy, _use_new_zipfile_serialization=False)
    assert torch.equal(read_tensors(legacy)["a"], torch.zeros(2))
    legacy.write_bytes(legacy.read_bytes() + reserves)
    with pytest.raises(UserError, match="reserves memory by a bytearray"):
        read_tensors(legacy)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(bytearray(3), protocol=2))
    with pytest.raises(UserError):
        read_tensors(tmp_path / "plain.pth")


def test_a_description_in_capitals(tmp_path):
    """torch looks for `data.pkl` in any case."""
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as archive:
        for name, data in parts({}):
            small = name.endswith("data.pkl")
            archive.writestr(name.replace("data.pkl", "DATA.pkl"), RESERVES[0] if small else data)
    with pytest.raises(UserError, match="reserves memory by a bytearray"):
        read_tensors(tmp_path / "x.ckpt")


@pytest.mark.parametrize("place", [6, 30])
def test_archives_that_torch_reads_and_python_does_not(tmp_path, place):
    """One asks for version 9.9 of the format, the other has fields that end early; both kept packed parts unseen."""
    path = write(tmp_path / "x.ckpt", {"a": torch.zeros(2**20)}, zipfile.ZIP_DEFLATED)
    content, begin = bytearray(path.read_bytes()), b"PK\x01\x02"
    first = content.find(begin)
    if place == 6:
        content[first + place : first + place + 2] = struct.pack("<H", 99)
    else:
        name = struct.unpack("<H", content[first + 28 : first + 30])[0]
        content[first + place : first + place + 2] = struct.pack("<H", 5)
        content[first + 46 + name : first + 46 + name] = b"\1\2\xff\0\0"
        end = content.rfind(b"PK\x05\x06")
        size = struct.unpack("<I", content[end + 12 : end + 16])[0]
        content[end + 12 : end + 16] = struct.pack("<I", size + 5)
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["a"].shape == (2**20,)
    with pytest.raises((zipfile.BadZipFile, NotImplementedError)):
        zipfile.ZipFile(path)
    for mmap in (False, True):
        with pytest.raises(UserError, match="its list of parts cannot be read"):
            read_tensors(path, mmap=mmap)


def test_programs_of_torch_are_called_so(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt: not a readable file of weights \(a TorchScript archive, which holds"):
        read_tensors(tmp_path / "x.pt", ours=False)


def test_parts_that_share_their_bytes(tmp_path):
    """Forty tensors of a mebibyte in a file of one."""
    path, size, count = tmp_path / "x.ckpt", 2**20, 40
    found = dict(parts({f"k{number}": torch.zeros(1) for number in range(count)}))
    (top,) = {name.partition("/")[0] for name in found}
    one, many = b"cpuq\x05K\x01t", b"cpuq\x05J" + struct.pack("<i", size // 4) + b"t"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{top}/data.pkl", found[f"{top}/data.pkl"].replace(one, many))
        for name in ("version", "byteorder"):
            archive.writestr(f"{top}/{name}", found[f"{top}/{name}"])
        archive.writestr(f"{top}/data/0", bytes(size))
        first = archive.filelist[-1]
        for number in range(1, count):
            other = zipfile.ZipInfo(f"{top}/data/{number}")
            other.CRC = 0
            for key in ("header_offset", "compress_size", "file_size"):
                setattr(other, key, getattr(first, key))  # without a check sum, which nobody would look at
            archive.filelist.append(other)
    with pytest.raises(UserError, match="its parts share their bytes"):
        read_tensors(path)


def test_a_description_of_many_megabytes(tmp_path):
    """What JSON makes of 88 MB of empty lists takes two gigabytes."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"a": torch.zeros(1)}, {KEY: json.dumps({"a": []}) + " " * 2**23}))
    with pytest.raises(UserError, match="its description has 8 MiB"):
        read_exported(path)


def test_what_torch_saves_is_read(tmp_path):
    content = {"a": torch.zeros(3), "b": torch.arange(4)[1:], "text": "bytearray", "nested": [{"c": 1.5, "d": None}]}
    torch.save(content, tmp_path / "x.ckpt")
    found = read_tensors(tmp_path / "x.ckpt")
    assert torch.equal(found["b"], content["b"])
    assert found["nested"] == content["nested"]
    shared = torch.zeros(2**10)
    torch.save({f"k{number}": shared for number in range(50)}, tmp_path / "shared.ckpt")
    assert len(read_tensors(tmp_path / "shared.ckpt")) == 50
