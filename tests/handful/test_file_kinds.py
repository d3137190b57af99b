"""A device, a pipe or a socket in the place of a file is said to be one, at every door."""

import os
import socket
from pathlib import Path

import pytest

from datamodules.cache import Cache
from datamodules.open_tree import open_tree
from handful.errors import UserError
from handful.file_kinds import special_kind
from handful.images.find import find_images
from handful.tensor_files import read_tensors
from pipelines.configs import read_config

NULL = Path("/dev/null")


@pytest.mark.parametrize(
    ("door", "said"),
    [
        (lambda path: open_tree(path, Cache(None)), r"data.root /dev/null is a device: give a folder"),
        (find_images, r"--images: there is no file or folder /dev/null; it is a device"),
        (lambda path: read_tensors(path, ours=True), r"/dev/null: there is no such checkpoint; it is a device"),
        (read_config, r"--config: /dev/null is a device; give a YAML file"),
    ],
)
def test_a_device(door, said):
    with pytest.raises(UserError, match=said):
        door(NULL)


def test_kinds(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "end"))
        assert special_kind(tmp_path / "end") == "a socket"
    assert special_kind(tmp_path / "pipe") == "a pipe"
    assert [special_kind(path) for path in (tmp_path, tmp_path / "none", Path(__file__), Path("a\0b"))] == [""] * 4


def test_a_config_may_come_through_a_pipe(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"seed: 3\n")
    os.close(writer)
    assert read_config(Path(f"/dev/fd/{reader}"))[1] == {"seed": 3}
    os.close(reader)
