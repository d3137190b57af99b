"""The cases: what each kind damages, and the command that meets the damage."""

import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.soak.archives import damaged_archive
from tests.soak.commands import LINES, OPTIONS, PLACES, READERS
from tests.soak.outcome import Command
from tests.soak.pictures import damaged_picture
from tests.soak.values import NODES, WORDS, damaged_bytes, damaged_tree, typo
from tests.soak.world import World

Make = Callable[[random.Random, World, Path], Command]


def command_line(rng: random.Random, world: World, folder: Path) -> Command:
    """A right command line with one to three mistakes."""
    words = list(rng.choice(LINES))
    for _ in range(rng.choice([1, 1, 2, 3])):
        words = _mistaken(rng, words)
    return _command(words, world, folder, may_take_long=True)


def _mistaken(rng: random.Random, words: list[str]) -> list[str]:
    words = list(words)
    at = rng.randrange(len(words)) if words else 0
    kind = rng.randrange(10)
    if kind <= 3 or not words:
        option, value = [*rng.choice(OPTIONS), ""][:2]
        if rng.random() < 0.2:
            option = typo(rng, option)
        if rng.random() < 0.7:
            value = rng.choice(WORDS)
        new = [f"{option}={value}"] if rng.random() < 0.3 else [option, value] if value else [option]
        return [*words[:1], *new, *words[1:]] if rng.random() < 0.3 else [*words, *new]
    if kind == 4:
        return words[:at] + words[at + 1 :]
    if kind == 5:
        return [*words[: at + 1], *words[at:]]
    if kind == 6:
        other = rng.randrange(len(words))
        words[at], words[other] = words[other], words[at]
        return words
    if kind == 7:
        return [*words[:at], rng.choice(WORDS), *words[at:]]
    if kind == 8 and words[at] not in PLACES:
        words[at] = typo(rng, words[at])
        return words
    if words[at] not in ("pipeline", "fit"):
        words[at] = rng.choice(WORDS)
    return words


def _command(words: list[str], world: World, folder: Path, may_take_long: bool = False) -> Command:
    """The command line on a copy of the run where it names the run."""
    run = folder / "run"
    if any("{run}" in word for word in words) and not run.exists():
        shutil.copytree(world.run, run)
    places = {
        "run": run,
        "other": world.run,
        "attributes": world.folder / "attributes.csv",
        "out": folder / "out",
        "config": folder / "config.yaml" if (folder / "config.yaml").exists() else world.config,
        "photo_config": world.photo_config,
        "photos": folder / "photos" if (folder / "photos").exists() else world.photos,
        "archive": folder / "photos.zip" if (folder / "photos.zip").exists() else world.archive,
        "picture": folder / "picture" if (folder / "picture").exists() else world.photos / "test/robin/0.png",
        "weights": world.folder / "weights.pth",
    }
    arguments = [_filled(word, places) for word in words]
    training = any(word in ("pipeline", "fit") for word in words)
    keeps = None if training and any("start_at" in word or "run" in word for word in words) else run
    return Command(arguments, keeps=keeps, may_take_long=may_take_long)


def _filled(word: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        word = word.replace("{" + name + "}", str(path))
    return word


def config(rng: random.Random, world: World, folder: Path) -> Command:
    """A config with a few nodes or bytes damaged, or one that means harm."""
    tree = yaml.safe_load((world.photo_config if rng.random() < 0.5 else world.config).read_text())
    kind = rng.random()
    if kind < 0.6:
        text = _as_yaml(damaged_tree(rng, tree, rng.choice([1, 1, 2, 5])))
    elif kind < 0.8:
        text = damaged_bytes(rng, yaml.safe_dump(tree, sort_keys=False).encode(), rng.choice([1, 3]))
    else:
        text = _tricky(rng, tree, folder)
    (folder / "config.yaml").write_bytes(text)
    where = ["--data.root", "{photos}"] if tree["data"]["class_path"] == "ImageFolder" else []
    return _command(
        ["pipeline", "--config", "{config}", *where, "--run_dir", "{out}"], world, folder, may_take_long=True
    )


def _as_yaml(tree: Any) -> bytes:
    try:
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, TypeError):
        return json.dumps(tree, default=str).encode()


def _tricky(rng: random.Random, tree: dict[str, Any], folder: Path) -> bytes:
    """What YAML can do beyond data, other encodings, and classes that do something."""
    text = yaml.safe_dump(tree, sort_keys=False)
    canary = folder / "canary"
    bombs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    harmful = (
        {"class_path": "os.system", "init_args": {"command": f"touch {canary}"}},
        {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(canary)]}},
        {"class_path": "pathlib.Path.touch", "init_args": {"self": str(canary)}},
        {"class_path": "builtins.open", "init_args": {"file": str(canary), "mode": "w"}},
        {"class_path": "builtins.exec", "init_args": {"source": f"open({str(canary)!r}, 'w')"}},
        {"class_path": "torch.load", "init_args": {"f": str(canary), "weights_only": False}},
        {"class_path": "torch.save", "init_args": {"obj": 1, "f": str(canary)}},
        {"class_path": "logging.FileHandler", "init_args": {"filename": str(canary)}},
        {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(canary)}},
        {"class_path": "tests.soak.canary.Touch", "init_args": {"path": str(canary)}},
    )
    kind = rng.randrange(14)
    if kind <= 3:
        spec = rng.choice(harmful)
        phase = rng.choice(list(tree["phases"].values()))
        where = rng.randrange(7)
        if where == 0:
            phase["module"] = spec
        elif where in (1, 2):
            phase["module"].setdefault("init_args", {})[("optimizer", "lr_scheduler")[where - 1]] = spec
        elif where == 3:
            phase["callbacks"] = [spec]
        elif where == 4:
            tree["data"] = spec
        elif where == 5:
            tree["trainer"] = {
                rng.choice(["logger", "strategy", "plugins", "profiler", "callbacks", "accelerator"]): spec
            }
        else:
            tree["network"] = {"backbone": spec["class_path"], "options": spec["init_args"]}
        text = yaml.safe_dump(tree, sort_keys=False)
    elif kind == 4:
        text = f"name: !!python/object/apply:os.system ['touch {canary}']\n" + text
    elif kind == 5:
        text = bombs + text
    elif kind == 6:
        return text.encode(rng.choice(["utf-16", "utf-32", "cp500"]))
    elif kind == 7:
        return ("name: Zaunkönig\n" + text.partition("\n")[2]).encode("latin-1")
    elif kind == 8:
        return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    elif kind == 9:
        text = rng.choice(
            [text + "---\n" + text, text + text, "- " + text, "%YAML 9.9\n---\n" + text, "#\n", "\t" + text]
        )
    elif kind == 10:
        text = text.replace("seed", "seed: 1\nseed") if "seed" in text else "seed: 1\nseed: 2\n" + text
    elif kind == 11:
        text = "[" * rng.choice([50, 5000]) + text
    elif kind == 12:
        text = "<<: *nothing\n" + text if rng.random() < 0.5 else "x: &x {y: *x}\n" + text
    else:
        text = json.dumps(tree)
    return text.encode()


def image(rng: random.Random, world: World, folder: Path) -> Command:
    """A picture that is damaged, extreme or another kind of file, explained or among the training images."""
    name, content = damaged_picture(rng)
    where = rng.random()
    if where < 0.6:
        path = folder / "pictures" / name
        path.parent.mkdir()
        path.write_bytes(content)
        given = path if rng.random() < 0.5 else path.parent
        words = ["explain", "--run_dir", "{run}", "--images", str(given), "--methods", "cam", "--out", "{out}"]
        return _command(words, world, folder)
    shutil.copytree(world.photos, folder / "photos")
    (folder / "photos" / rng.choice(["train", "test"]) / "wren" / name).write_bytes(content)
    words = ["pipeline", "--config", "{photo_config}", "--data.root", "{photos}", "--run_dir", "{out}"]
    return _command([*words, "--data.cache", rng.choice(["true", "false"])], world, folder)


def record(rng: random.Random, world: World, folder: Path) -> Command:
    """A run's folder with one or two files damaged, gone or exchanged, read by any command."""
    run = folder / "run"
    shutil.copytree(world.run, run)
    files = sorted(p for p in run.rglob("*") if p.is_file() and p.suffix not in (".html", ".png"))
    for path in rng.sample(files, rng.choice([1, 1, 2])):
        _damage(rng, path, files)
    words = list(rng.choice([*READERS, *READERS, ["pipeline", "--config", "{config}", "--run_dir", "{run}"]]))
    if "--out" in words and rng.random() < 0.5:
        words = words[: words.index("--out")]
    return _command(words, world, folder)


def _damage(rng: random.Random, path: Path, files: list[Path]) -> None:
    kind = rng.random()
    text = path.suffix in (".json", ".yaml")
    if kind < 0.5 and text:
        content = path.read_text()
        tree = damaged_tree(
            rng, json.loads(content) if path.suffix == ".json" else yaml.safe_load(content), rng.choice([1, 2])
        )
        path.write_bytes(json.dumps(tree).encode() if path.suffix == ".json" else _as_yaml(tree))
    elif kind < 0.5 and path.suffix == ".csv":
        rows = path.read_text().splitlines()
        cells = rows[rng.randrange(len(rows))].split(",")
        cells[rng.randrange(len(cells))] = rng.choice(["", "x", "nan", "1e999", '"', "a,b", "=1+1", "\x00", "-1"])
        rows[rng.randrange(len(rows))] = ",".join(cells)
        path.write_text("\n".join(rows))
    elif kind < 0.75:
        path.write_bytes(damaged_bytes(rng, path.read_bytes(), rng.choice([1, 2])))
    elif kind < 0.85:
        path.unlink()
    elif kind < 0.92:
        path.write_bytes(
            rng.choice(files).read_bytes() if (other := rng.choice(files)).is_file() else str(other).encode()
        )
    elif kind < 0.96:
        path.unlink()
        path.mkdir()
    else:
        path.write_text(json.dumps(rng.choice(NODES)))


def archive(rng: random.Random, world: World, folder: Path) -> Command:
    """A zip archive that is damaged, made elsewhere or means harm."""
    target = folder / "photos.zip"
    with zipfile.ZipFile(world.archive) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    target.write_bytes(damaged_archive(rng, entries, world.archive.read_bytes()))
    words = ["pipeline", "--config", "{photo_config}", "--data.root", "{archive}", "--run_dir", "{out}"]
    return _command([*words, "--data.cache", rng.choice(["true", "false"])], world, folder)


#: How many of a thousand cases are of each kind.
SHARES: dict[str, int] = {"command": 350, "config": 200, "image": 150, "record": 200, "archive": 100}

MAKE: dict[str, Make] = {
    "command": command_line, "config": config, "image": image, "record": record, "archive": archive,
}  # fmt: skip
