"""A config, or a run's folder, from elsewhere: it names what would run a stranger's code, and nothing runs."""

import contextlib
import json
import pickle
import re
import shutil
import sys

import pytest
import torch
import yaml

from pipelines.cli import main
from pipelines.permitted_classes import KNOWN, permitted
from tests.helpers.pipeline import tiny_config, write_config


class Evil:
    """Unpickling it writes the canary."""

    def __init__(self, canary):
        self.command = f"touch {canary}"

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A package that writes a file when it is imported, and everything else that would write it."""
    folder = tmp_path / "elsewhere"
    package = folder / "canary_package"
    package.mkdir(parents=True)
    file = tmp_path / "canary"
    (package / "__init__.py").write_text(
        f"import pathlib, torch\nfrom lightning.pytorch import Callback\npathlib.Path({str(file)!r}).touch()\n"
        "class Watch(Callback):\n    pass\nclass SGD(torch.optim.SGD):\n    pass\n"
    )
    (folder / "hubconf.py").write_text(f"import pathlib\npathlib.Path({str(file)!r}).touch()\ndef model(): pass\n")
    (folder / "evil.pth").write_bytes(pickle.dumps(Evil(file)))
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": Evil(file)}, folder / "evil.ckpt")
    (folder / "evil.yaml").write_text(f"!!python/object/apply:os.system ['touch {file}']\n")
    monkeypatch.syspath_prepend(str(folder))
    yield file
    assert not file.exists()
    assert "canary_package" not in sys.modules


def spec(path, **init_args):
    return {"class_path": path, "init_args": init_args}


HOSTILE = {
    "schedule runs a command": ("dense.module.init_args.lr_scheduler", spec("os.system", command="touch {canary}")),
    "optimizer runs a command": ("dense.module.init_args.optimizer", spec("subprocess.run", args="touch {canary}")),
    "optimizer of posix": ("dense.module.init_args.optimizer", spec("posix.system", command="touch {canary}")),
    "optimizer evaluates": ("dense.module.init_args.optimizer", spec("builtins.eval", source="open('{canary}', 'w')")),
    "optimizer of a package": ("dense.module.init_args.optimizer", spec("canary_package.SGD", lr=0.1)),
    "optimizer by name only": ("dense.module.init_args.optimizer", "canary_package.SGD"),
    "optimizer in a partial": ("dense.module.init_args.optimizer", spec("functools.partial", func="os.system")),
    "optimizer from the hub": (
        "dense.module.init_args.optimizer",
        spec("torch.hub.load", repo_or_dir="{folder}", model="model", source="local"),
    ),
    "optimizer unpickles": ("dense.module.init_args.optimizer", spec("torch.load", f="{folder}/evil.pth")),
    "optimizer compiles": (
        "dense.module.init_args.optimizer",
        spec("torch.utils.cpp_extension.load_inline", name="x", cpp_sources=""),
    ),
    "optimizer through our module": ("dense.module.init_args.optimizer", spec("callbacks.records.csv.os.system")),
    "optimizer is a method": (
        "dense.module.init_args.lr_scheduler",
        spec("lightning.pytorch.loggers.WandbLogger.download_artifact", artifact="x"),
    ),
    "optimizer is a method of ours": ("dense.module.init_args.optimizer", spec("datamodules.ImageFolder.contents")),
    "a part of a schedule": (
        "dense.module.init_args.lr_scheduler",
        spec("lightning_modules.WarmupThen", schedulers=[spec("os.system", command="touch {canary}")], milestones=[]),
    ),
    "a callback": ("dense.callbacks", [spec("canary_package.Watch")]),
    "a function of a callback": (
        "dense.callbacks",
        [spec("lightning.pytorch.callbacks.LambdaCallback", on_fit_start="canary_package.Watch")],
    ),
    "a method for a function of a callback": (
        "dense.callbacks",
        [spec("lightning.pytorch.callbacks.LambdaCallback", on_fit_start="datamodules.ImageFolder.contents")],
    ),
    "a method for a function of a schedule": (
        "dense.module.init_args.lr_scheduler",
        spec("torch.optim.lr_scheduler.LambdaLR", lr_lambda="lightning.pytorch.loggers.WandbLogger.download_artifact"),
    ),
    "a phase": ("dense.module", spec("canary_package.Module")),
    "the data": ("data", spec("canary_package.Data")),
    "a profiler": ("trainer.profiler", spec("canary_package.Profiler")),
    "a plugin": ("trainer.plugins", [spec("canary_package.Plugin")]),
    "a strategy": ("trainer.strategy", spec("canary_package.Strategy")),
    "a strategy by name": ("trainer.strategy", "canary_package.Strategy"),
    "weights of timm": ("network", {"backbone": "resnet18", "options": {"checkpoint_path": "{folder}/evil.pth"}}),
    "weights of timm's config": (
        "network",
        {"backbone": "resnet18", "pretrained": True, "options": {"pretrained_cfg": {"file": "{folder}/evil.pth"}}},
    ),
    "weights in a pickle": ("network.pretrained", "{folder}/evil.pth"),
    "weights to start from": ("init_from", "{folder}/evil.ckpt"),
    "a network": ("network", spec("canary_package.Network")),
    "data in a file of its own": ("data", "{folder}/evil.yaml"),
    "a name outside": ("name", "../../elsewhere"),
    "an interpolation": ("name", "${{oc.env:HOME}}"),
}


def hostile(kind, canary):
    """The tiny pipeline, its dense phase alone, with one hostile value."""
    config = tiny_config()
    dense = config["phases"]["dense"] | {"callbacks": []}
    config |= {"phases": {"dense": dense}}
    place, value = HOSTILE[kind]
    text = yaml.safe_dump(value).replace("{canary}", str(canary)).replace("{folder}", str(canary.parent / "elsewhere"))
    *path, last = (f"phases.{place}" if place.startswith("dense") else place).split(".")
    target = config
    for part in path:
        target = target[part]
    target[last] = yaml.safe_load(text)
    return config


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    assert end.value.code == 2
    (sentence,) = [x for x in capsys.readouterr().err.strip().splitlines() if re.match("handful: (?!warning:)", x)]
    return sentence


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_config_from_elsewhere(kind, canary, tmp_path, capsys):
    file = write_config(tmp_path, **hostile(kind, canary))
    sentence = refused(capsys, "pipeline", "--config", file, "--run_dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    if "canary_package" in str(HOSTILE[kind]) and kind not in ("a network", "a strategy by name"):
        assert "--trust canary_package" in sentence or "trainer." in sentence


@pytest.mark.parametrize(("path", "sentence"), [
    (["os.system"], r"yaml: phases.dense.module.init_args.optimizer: class_path is the name of a class, not a list"),
    (spec("os.system"), "optimizer: class_path is the name of a class, not a mapping"),
    (7, "optimizer: class_path is the name of a class, not a number"),
    (" os.system", "optimizer: there is no class"), ("torch.optim..AdamW", "did you mean torch.optim.AdamW"),
    ("os:system", "optimizer: there is no class"),
    ("оs.system", "^handful: phases.dense.module: optimizer: 'оs.system' is not one of the classes"),  # a Cyrillic o
])  # fmt: skip
def test_what_is_no_path_of_a_class_is_said(path, sentence, canary, tmp_path, capsys):
    config = hostile("optimizer in a partial", canary)
    config["phases"]["dense"]["module"]["init_args"]["optimizer"] = {"class_path": path, "init_args": {}}
    said = refused(capsys, "pipeline", "--config", write_config(tmp_path, **config))
    assert re.search(sentence, said)


@pytest.mark.parametrize("command", ["report", "explain", "tradeoff", "test"])
@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: " + "[" * 3000 + "]" * 3000 + "\n", "bomb"])
def test_a_run_whose_configuration_multiplies_or_holds_itself(run, command, text, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    for path in (copy / "config.yaml", copy / "dense/config.yaml"):
        path.write_text(("\n".join(levels) + "\n" if text == "bomb" else text) + path.read_text())
    (copy / "x.png").write_bytes(b"")
    extra = {"explain": ("--images", copy), "tradeoff": ("--n_features", "2")}.get(command, ())
    assert "config.yaml" in refused(capsys, command, "--run_dir", copy, *extra)


TAGS = (
    "name: !!python/object/apply:os.system ['touch {canary}']",
    "!!python/object/new:canary_package.Watch []",
    "trainer: !!python/name:canary_package.Watch",
    "trainer: !!python/module:canary_package",
    "phases: {{dense: {{module: !canary_package.Watch {{}}}}}}",
    "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
    "c: &c [*b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c]\nname: [*d, *d, *d, *d, *d, *d, *d, *d]\n"
    "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d]",
    "a: &a [*a]",
)


@pytest.mark.parametrize("text", TAGS)
@pytest.mark.parametrize("command", ["pipeline", "fit", "explain", "tradeoff"])
def test_tags_and_aliases(text, command, canary, tmp_path, capsys):
    file = tmp_path / "tags.yaml"
    file.write_text(text.format(canary=canary))
    assert "tags.yaml" in refused(capsys, command, "--config", file)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder, phases={"dense": tiny_config()["phases"]["dense"] | {"callbacks": []}})
    main(["pipeline", "--config", str(config), "--run_dir", str(folder / "run"), "--phases.dense.max_epochs", "1"])
    return folder / "run"


def without_digests(folder):
    """Make the record of the dense phase one of an earlier version, as a stranger could make right digests."""
    path = folder / "dense/done.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in record.items() if name not in ("files", "checksum")}))


FOLDER = [
    ("model.init_args.lr_scheduler", spec("os.system", command="touch {canary}")),
    ("model.init_args.optimizer", spec("canary_package.SGD", lr=0.1)),
    ("model.init_args.network.options", {"checkpoint_path": "{folder}/evil.pth"}),
    ("model", spec("canary_package.Module")),
    ("data", spec("canary_package.Data")),
    ("trainer.logger", spec("canary_package.Logger")),
    ("trainer.callbacks", [spec("canary_package.Watch")]),
    ("trainer.plugins", [spec("canary_package.Plugin")]),
    ("trainer.strategy", spec("canary_package.Strategy")),
    ("trainer.profiler", spec("canary_package.Profiler")),
    ("ckpt_path", "{folder}/evil.ckpt"),
]


@pytest.mark.parametrize(("place", "value"), FOLDER)
@pytest.mark.parametrize("command", ["test", "predict", "fit"])
def test_a_run_folder_from_elsewhere(run, command, place, value, canary, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((copy / "dense/config.yaml").read_text())
    text = yaml.safe_dump(value).replace("{canary}", str(canary)).replace("{folder}", str(canary.parent / "elsewhere"))
    *path, last = place.split(".")
    target = config
    for part in path:
        target = target[part]
    target[last] = yaml.safe_load(text)
    if "options" in place:
        config["model"]["init_args"]["network"]["backbone"] = "resnet18"
    (copy / "dense/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    without_digests(copy)
    if command == "fit":
        refused(capsys, "fit", "--config", copy / "dense/config.yaml")
    elif place == "ckpt_path":
        refused(capsys, command, "--config", copy / "dense/config.yaml")
    else:
        refused(capsys, command, "--run_dir", copy)


@pytest.mark.parametrize("command", ["test", "predict", "validate", "fit"])
@pytest.mark.parametrize("writer", ["OnExceptionCheckpoint", "SimpleProfiler"])
def test_a_run_from_elsewhere_removes_and_writes_nothing_outside(run, command, writer, tmp_path, capsys, monkeypatch):
    """Lightning's `OnExceptionCheckpoint` removes the file that it is told to write."""
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(run, tmp_path / "run")
    (tmp_path / "precious.ckpt").write_text("mine")
    (tmp_path / "test-precious.txt").write_text("mine")
    config = yaml.safe_load((copy / "dense/config.yaml").read_text())
    path = f"lightning.pytorch.{'profilers' if writer == 'SimpleProfiler' else 'callbacks'}.{writer}"
    written = spec(path, dirpath=str(tmp_path), filename="precious")
    config["trainer"] |= {"profiler": written} if writer == "SimpleProfiler" else {"callbacks": [written]}
    (copy / "dense/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    without_digests(copy)
    if command != "fit":
        assert f"{writer}: dirpath" in refused(capsys, command, "--run_dir", copy)
    elif writer == "OnExceptionCheckpoint":
        said = refused(capsys, "fit", "--config", copy / "dense/config.yaml")
        assert "would remove" in said
    assert (tmp_path / "precious.ckpt").read_text() == (tmp_path / "test-precious.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("*precious*"))) == 2


@pytest.mark.parametrize("command", ["explain", "report", "tradeoff"])
@pytest.mark.parametrize(
    "data", [spec("canary_package.Data"), spec("os.system", command="touch {canary}"), "canary_package.Data", [1]]
)
def test_the_data_of_a_run_from_elsewhere(run, command, data, canary, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["data"] = yaml.safe_load(yaml.safe_dump(data).replace("{canary}", str(canary)))
    config["phases"]["sparsify"] = {"module": spec("Sparsify")}
    (copy / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (copy / "results.json").write_text("{}")
    extra = {"explain": ("--images", copy), "tradeoff": ("--n_features", "2"), "report": ()}[command]
    (copy / "x.png").write_bytes(b"")
    refused(capsys, command, "--run_dir", copy, *extra)


@pytest.mark.parametrize("command", ["report", "tradeoff", "test", "predict"])
def test_a_run_from_elsewhere_keeps_no_images_where_it_likes(run, command, tmp_path, capsys, recwarn):
    """Entries were written to, and drafts swept from, whatever `data.cache_dir` named."""
    copy = shutil.copytree(run, tmp_path / "run")
    precious = tmp_path / "precious"
    (precious / ".draft-mine").mkdir(parents=True)
    for file in (copy / "config.yaml", copy / "dense/config.yaml"):
        config = yaml.safe_load(file.read_text())
        config["data"]["init_args"] |= {"cache_dir": str(precious)}
        if "sparsify" not in config.get("phases", {"sparsify": 0}):
            config["phases"]["sparsify"] = {"module": spec("Sparsify")}
        file.write_text(yaml.safe_dump(config, sort_keys=False))
    without_digests(copy)
    extra = ("--n_features", "2") if command == "tradeoff" else ("--phase", "dense") if command != "report" else ()
    with contextlib.suppress(SystemExit):
        main([command, "--run_dir", str(copy), *extra])
    assert [path.name for path in precious.iterdir()] == [".draft-mine"]
    said = capsys.readouterr().err + "".join(str(w.message) for w in recwarn)
    assert f"data.cache_dir {precious} is no cache of images; the usual one is used" in " ".join(said.split())


def test_a_checkpoint_from_elsewhere(run, canary, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.copy(canary.parent / "elsewhere/evil.ckpt", copy / "dense/best.ckpt")
    (copy / "x.png").write_bytes(b"")
    for command, *extra in (["explain", "--images", copy], ["report"], ["test"], ["predict"]):
        refused(capsys, command, "--run_dir", copy, *extra)


def test_ones_own_class_needs_trust(tmp_path, capsys, monkeypatch):
    """Named by `--trust`, a class of one's own is imported and used; afterwards it is not permitted any more."""
    (tmp_path / "own_package.py").write_text(
        "import torch\nfrom lightning.pytorch import Callback\n"
        "class Watch(Callback):\n    def on_fit_end(self, trainer, module):\n        print('watched')\n"
        "class Own(torch.optim.SGD):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    dense = tiny_config()["phases"]["dense"] | {"callbacks": [spec("own_package.Watch")], "max_epochs": 1}
    dense["module"]["init_args"]["optimizer"] = spec("own_package.Own", lr=0.01)
    file = write_config(tmp_path, phases={"dense": dense})
    command = ["pipeline", "--config", file, "--run_dir", tmp_path / "run"]
    assert "--trust own_package" in refused(capsys, *command)
    main([*map(str, command), "--trust", "own_package"])
    assert "watched" in capsys.readouterr().out
    assert "--trust own_package" in refused(capsys, *command)
    assert "--trust nowhere" in refused(capsys, *command, "--trust", "nowhere")
    for package in ("os", "torch.hub", "jsonargparse", "../x", "x.y z"):
        assert f"--trust {package}" in refused(capsys, *command, "--trust", package)


def test_what_is_known():
    for path in ("torch.optim.AdamW", "lightning.pytorch.callbacks.EarlyStopping", "callbacks.Diversity",
                 "lightning_modules.Dense", "datamodules.ToyBirds", "lightning_modules.classifier.sgd",
                 "lightning.pytorch.callbacks.early_stopping.EarlyStopping", "lightning.pytorch.strategies.DDPStrategy",
                 "lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.profilers.SimpleProfiler",
                 "torch.optim.lr_scheduler.OneCycleLR", "lightning_modules.WarmupThen"):  # fmt: skip
        assert permitted(path), path
    assert not any(path.startswith(("os", "torch.hub", "builtins")) for path in KNOWN)
    assert all(path.startswith("pipelines.phases.") for path in KNOWN if path.startswith("pipelines"))
