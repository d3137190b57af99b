"""What every case of the fuzz starts from: a finished run, pictures, an archive and a config, all small."""

import contextlib
import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from tests.helpers.pipeline import tiny_config

#: Side of the pictures in pixels.
SIDE = 24


@dataclass(frozen=True)
class World:
    """Files that cases copy and damage, never change.

    Attributes:
        folder: holds everything below.
    """

    folder: Path

    @property
    def run(self) -> Path:
        """A finished run of four phases on toy birds."""
        return self.folder / "run"

    @property
    def photos(self) -> Path:
        """Two splits of three classes of pictures, as `ImageFolder` reads them."""
        return self.folder / "photos"

    @property
    def archive(self) -> Path:
        """The same in a zip archive."""
        return self.folder / "photos.zip"

    @property
    def config(self) -> Path:
        """The run's config."""
        return self.folder / "tiny.yaml"

    @property
    def photo_config(self) -> Path:
        """One phase on `photos`; `data.root` is given on the command line."""
        return self.folder / "photos.yaml"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The content of `config`."""
        return yaml.safe_load(self.config.read_text())

    @property
    def cache(self) -> Path:
        """Decoded pictures, shared by all cases."""
        return self.folder / "cache"

    def digest(self) -> str:
        """Of names and contents of everything but the cache."""
        return digest_of(self.folder, skip=("cache",))


def digest_of(folder: Path, skip: tuple[str, ...] = ()) -> str:
    """Of names and contents of all files beneath a folder, but for folders of these names at its top."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if inside.parts[0] not in skip:
            total.update(os.fsencode(str(inside)) + b"\0")
            if path.is_file() and not path.is_symlink():
                total.update(path.read_bytes())
    return total.hexdigest()


def build_world(folder: Path) -> World:
    """Make the files, in seconds."""
    from pipelines.cli import main

    world = World(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_photos(world.photos)
    with zipfile.ZipFile(world.archive, "w") as file:
        for path in sorted(world.photos.rglob("*.png")):
            file.write(path, path.relative_to(world.photos))
    config = tiny_config()
    config["trainer"] |= {"limit_train_batches": 2}
    for phase in config["phases"].values():
        if "max_epochs" in phase:
            phase["max_epochs"] = 1
        phase["callbacks"] = [c for c in phase.get("callbacks", []) if "KillAt" not in c["class_path"]]
    world.config.write_text(yaml.safe_dump(config, sort_keys=False))
    options = {"image_size": SIDE, "batch_size": 8, "val_fraction": 0.25}
    photos = config | {
        "data": {"class_path": "ImageFolder", "init_args": options},
        "phases": {"dense": config["phases"]["dense"]},
    }
    world.photo_config.write_text(yaml.safe_dump(photos, sort_keys=False))
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(world.cache)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(["pipeline", "--config", str(world.config), "--run_dir", str(world.run)])
            main(["tradeoff", "--run_dir", str(world.run), "--n_features", "4,5", "--features_per_class", "1,2"])
            main(["evaluate", "--run_dir", str(world.run), "--conformal", "0.8"])
            main(["evaluate", "--run_dir", str(world.run), "--images", "6"])
            main(["probe", "--run_dir", str(world.run), "--images", "4"])
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
    model = torch.load(world.run / "dense" / "best.ckpt", weights_only=True)["state_dict"]
    torch.save(model, folder / "weights.pth")
    (folder / "notes.json").write_text(json.dumps({"a": [1, 2]}))
    names = json.loads((world.run / "results.json").read_text())["data"]["class_names"]
    rows = [f"{name},{20 * place},{100 - 20 * place}" for place, name in enumerate(names)]
    (folder / "attributes.csv").write_text("\n".join(["class,red,blue", *rows]) + "\n")
    return world


def _write_photos(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for name in ("robin", "wren", "tit"):
            place = root / split / name
            place.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(0, 256, (SIDE, SIDE + 4, 3), dtype=np.uint8)
                Image.fromarray(noise).save(place / f"{i}.png")
