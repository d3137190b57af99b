"""What is kept of images may be cut short or hold another thing: it is made again, and nobody notices."""

import json
import os
import pickle
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolder, ToyBirds
from handful.errors import UserError

DAMAGES = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "another value": lambda content: b"[1, 2]",
    "null": lambda content: b"null",
    "nested": lambda content: b"[" * 100_000,
    "names in the place of numbers": lambda content: json.dumps([["a"], {"b": "c"}]).encode(),
}


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("owl", "wren"):
            for i in range(3):
                path = tmp_path / "photos" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def everything(make):
    data = make()
    images = {name: [split.pixels(i).clone() for i in range(len(split))] for name, split in data.splits.items()}
    return images, data.mean, data.std


def same(found, expected):
    images, statistics = found[0], found[1:]
    assert statistics == expected[1:]
    for name, pixels in expected[0].items():
        assert all(torch.equal(a, b) for a, b in zip(images[name], pixels, strict=True))


@pytest.mark.parametrize("kind", ["photos", "toy birds"])
def test_flipped_pixels_are_noticed_when_they_are_read_and_made_again(kind, photos, tmp_path):
    """Of the right length and used unnoticed before; a forked loader process notices as well."""
    cache = tmp_path / "cache"

    def make():
        if kind == "photos":
            return ImageFolder(str(photos), image_size=8, val_fraction=0, cache_dir=str(cache), num_workers=1)
        return ToyBirds(n_classes=2, images_per_class=2, val_images_per_class=1, test_images_per_class=1,
                        image_size=16, cache_dir=str(cache), num_workers=1)  # fmt: skip

    expected = everything(make)
    there = make().splits["train"].images
    assert torch.equal(pickle.loads(pickle.dumps(there))[0], there[0])  # for a loader process that is not forked
    file = next(path for path in cache.rglob("train.pixels"))
    whole = file.read_bytes()
    for place in (0, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        data = make()
        train = data.splits["train"]
        with pytest.raises(UserError, match=r"damaged: image . of train is not as it was written\. Give the same"):
            [train.pixels(i) for i in range(len(train))]
        same(everything(make), expected)
        assert file.read_bytes() == whole
    file.write_bytes(damaged)
    with pytest.raises(UserError, match="is damaged"):
        list(make().train_dataloader())


def as_nobody(action, home):
    """Run something in a process that may not write to the files of this one."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.environ["XDG_CACHE_HOME"] = str(home)
            if os.geteuid() == 0:
                os.seteuid(65534)
            action()
            status = 0
        finally:
            traceback.print_exc()
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def shared():
    """A folder that everybody can read, and one that everybody can write."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "own").mkdir(mode=0o777)
        os.chmod(Path(folder) / "own", 0o777)
        yield Path(folder)
        for path in Path(folder).rglob("*"):
            if path.is_dir():
                os.chmod(path, 0o755)


def test_a_damaged_cache_of_others_is_replaced_by_ones_own(shared):
    def make():
        return ToyBirds(n_classes=2, images_per_class=2, val_images_per_class=1, test_images_per_class=1,
                        image_size=16, cache_dir=str(shared / "cache"))  # fmt: skip

    expected = everything(make)
    for path in shared.rglob("train.pixels"):
        path.write_bytes(path.read_bytes()[:9])
    for path in (shared / "cache").rglob("*"):
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    os.chmod(shared / "cache", 0o555)

    def work():
        for number in range(2):
            with pytest.warns(UserWarning, match=r"is damaged and cannot be made again there .*denied.* instead"):
                same(everything(make), expected)
            assert len(list((shared / "own/handful").glob("*/train.pixels"))) == 1, number

    as_nobody(work, shared / "own")


def test_flipped_pixels_in_a_cache_of_others_say_what_to_do(shared):
    def make():
        return ToyBirds(n_classes=2, images_per_class=2, val_images_per_class=1, test_images_per_class=1,
                        image_size=16, cache_dir=str(shared / "cache"))  # fmt: skip

    everything(make)
    (file,) = shared.rglob("train.pixels")
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    os.chmod(file.parent, 0o555)

    def work():
        with pytest.raises(UserError, match=r"It cannot be written .*denied.*data\.cache_dir"):
            everything(make)

    as_nobody(work, shared / "own")


@pytest.mark.parametrize("kind", ["packed", "files", "toy birds"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_the_cache(kind, damage, photos, tmp_path):
    cache = tmp_path / "cache"

    def make():
        if kind == "toy birds":
            return ToyBirds(n_classes=2, images_per_class=2, val_images_per_class=1, test_images_per_class=1,
                            image_size=16, cache_dir=str(cache))  # fmt: skip
        return ImageFolder(str(photos), image_size=8, cache=kind == "packed", val_fraction=0, cache_dir=str(cache))

    expected = everything(make)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        same(everything(make), expected)
    for path in files:
        path.unlink()
        same(everything(make), expected)
