"""Config files and options: who wins, in which encoding, of which shape, and what is said of the rest."""

import json
import re
import subprocess
import sys

import pytest
import torch
import yaml

from handful.errors import UserError
from pipelines.cli import main
from pipelines.configs import check_name, configs_first, read_config
from pipelines.parse import parse_pipeline
from pipelines.trainer_arguments import on_this_machine
from tests.helpers.pipeline import ROOT, tiny_config, write_config


def sentence(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    assert end.value.code == 2
    (line,) = [x for x in capsys.readouterr().err.strip().splitlines() if x.startswith("handful: ")]
    return line


@pytest.fixture
def two(tmp_path):
    """Two configs that differ in the seed and in the epochs."""
    first = write_config(tmp_path)
    second = tmp_path / "second.yaml"
    second.write_text("seed: 7\nphases: {dense: {max_epochs: 11}}\n")
    return first, second


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "3", "--config", "{0}", "--config", "{1}"],
        ["--seed=3", "--config={0}", "--config={1}"],
        ["--config", "{0}", "--seed", "3", "--config={1}"],
        ["-c", "{0}", "--seed", "3", "-c={1}"],
    ],
)
def test_options_win_over_configs_and_later_configs_over_earlier(two, arguments):
    pipeline, _ = parse_pipeline([a.format(*two) for a in arguments])
    assert (pipeline.seed, pipeline.phases["dense"].max_epochs) == (3, 11)
    assert list(pipeline.phases) == ["dense", "sparsify", "finetune", "evaluate"]


def test_options_win_in_every_command(tmp_path, capsys):
    config = tmp_path / "options.yaml"
    config.write_text(f"run_dir: {tmp_path / 'in_the_config'}\n")
    for command, extra in (("explain", ["--images", "x"]), ("report", []), ("tradeoff", [])):
        said = sentence(capsys, command, "--run_dir", tmp_path / "given", *extra, "--config", config)
        assert "in_the_config" not in said


def test_options_win_in_lightnings_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "fit.yaml"
    config.write_text(
        yaml.safe_dump({"model": {"class_path": "Dense", "init_args": {"network": {}}}, "data": tiny_config()["data"],
                        "trainer": {"max_epochs": 1}})
    )  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main(["fit", "--trainer.max_epochs", "5", "--data.batch_size=3", f"--config={config}", "--print_config"])
    assert end.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["trainer"]["max_epochs"], shown["data"]["init_args"]["batch_size"]) == (5, 3)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_encodings(tmp_path, encoding, mark):
    if mark and encoding in ("utf-8-sig", "utf-16", "utf-32"):
        pytest.skip("has a byte order mark already")
    text = mark + "# größe\n" + yaml.safe_dump(tiny_config(), sort_keys=False)
    file = tmp_path / "c.yaml"
    file.write_bytes(text.encode(encoding))
    assert parse_pipeline(["--config", str(file)])[0].name == "tiny"


BAD = {
    b"a: b\n# gr\xf6\xdfe\n": "line 2 is not text in UTF-8 (it holds the byte 0xF6)",
    b"\xff\xfea": "damaged text in UTF-16; save the file as UTF-8",
    b"\x1f\x8b\x08\x00name": "line 1 is not text in UTF-8 (it holds the byte 0x8B)",
    b"name: \x00x": "not a YAML file",
    b"name: [": "not a YAML file",
    b"name: a\nname: b\n": "'name' is given twice",
    b"phases: {dense: {module: {}, module: {}}}": "'module' is given twice",
    b"? [a]\n: 1\n": "line 1: ",
    b": 1\n": "not a YAML file",
    b"~: 1\n": "line 1: ",
    b"- a\n": "holds a list where a mapping is needed",
    b"a\n": "holds a text where a mapping is needed",
    b"5\n": "holds a number where a mapping is needed",
    b"a: !!int x\n": "not a YAML file",
    b"a: 1\n---\nb: 2\n": "not a YAML file",
    b"": "no phases; a pipeline needs at least one",
    b"# nothing\n": "no phases; a pipeline needs at least one",
    b"phases: null\n": "no phases",
    b"phases: [dense]\n": "phases is a mapping",
    b"phases: {dense: null}\n": "phases.dense is a mapping",
    b"phases: {dense: 3}\n": "phases.dense is a mapping",
    b"phases: {a/b: {}}\n": "cannot be the name of a folder",
    b"phases: {'..': {}}\n": "cannot be the name of a folder",
    b'phases: {"a\\nb": {}}\n': "cannot be the name of a folder",
    b"phases: {report: {}}\n": "a phase cannot be called 'report'",
    b"phases: {a.b: {}}\n": "a phase cannot be called 'a.b'",
    b"phases: {" + 200 * b"x" + b": {}}\n": "too long for the name of a folder",
    b"[" * 5000: "nested too deeply",
    b"a: " + b"x" * (2**20): "no config (1.0 MiB, where at most 1 are expected)",
}


@pytest.mark.parametrize("content", BAD, ids=lambda content: content[:24].decode("latin-1").encode("unicode_escape"))
def test_files_that_are_no_configs(tmp_path, capsys, content):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    said = sentence(capsys, "pipeline", "--config", file, "--run_dir", tmp_path / "run")
    assert "bad.yaml" in said
    assert BAD[content] in said
    assert not (tmp_path / "run").exists()


NULLS = ["name", "seed", "loggers", "wandb", "network", "phases.dense.monitor", "phases.dense.max_epochs"]


@pytest.mark.parametrize("key", NULLS)
def test_a_key_without_a_value_in_a_config(tmp_path, capsys, key):
    """The parser takes null everywhere; it ended in errors of Python."""
    config = tiny_config()
    place = config
    for part in key.split(".")[:-1]:
        place = place[part]
    place[key.split(".")[-1]] = None
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config))
    said = sentence(capsys, "pipeline", "--config", file, "--run_dir", tmp_path / "run")
    assert key.rpartition(".")[2] in said
    assert re.search("has no value|not None|Got value|Given value", said)
    assert not (tmp_path / "run").exists()


def test_a_list_in_the_place_of_a_group(tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(tiny_config(wandb=[{"mode": "disabled"}])))
    said = sentence(capsys, "pipeline", "--config", file, "--run_dir", tmp_path / "run")
    assert "wandb: a mapping of mode, project and entity, not [{'mode': 'disabled'}]" in said


WRONG = [
    (["--name", "a/b"], "name: 'a/b' cannot be the name of a folder"),
    (["--name", "a\nb"], "name: 'a\\nb' cannot be the name of a folder"),
    (["--name", ".."], "cannot be the name of a folder"),
    (["--name", ""], "cannot be the name of a folder"),
    (["--name", "x" * 300], "too long for the name of a folder"),
    (["--run_dir", "/proc/version"], "/proc/version"),
    (["--trainer.devices", "banana"], "trainer.devices: "),
    (["--trainer.devices", "0"], "trainer.devices: "),
    (["--trainer.devices", "-3"], "trainer.devices: "),
    (["--trainer.devices", "[]"], "trainer.devices: "),
    (["--trainer.precision", "12"], "trainer.precision: "),
    (["--trainer.accelerator", "banana"], "trainer.accelerator: "),
    (["--trainer.strategy", "banana"], "trainer.strategy: "),
    (["--trainer.profiler", "banana"], "trainer.profiler: "),
    (["--trainer.num_nodes", "x"], "trainer.num_nodes: "),
    (["--trainer.limit_train_batches", "x"], "trainer.limit_train_batches: "),
    (["--trainer.gradient_clip_val", "x"], "trainer.gradient_clip_val: "),
    (["--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches: "),
    (["--trainer.log_every_n_steps", "x"], "trainer.log_every_n_steps: "),
    (["--trainer.val_check_interval", "[1]"], "trainer.val_check_interval: "),
    (["--trainer.nam", "1"], "--trainer.nam: there is no such option"),
    (["--trainer", "[1]"], "trainer"),
    (["--data", "null"], "data"),
    (["--seed", "null"], "seed"),
    (["--phases.dense.module", "null"], "phases.dense.module"),
    (["--phases.dense.module.optimizer", "null"], "optimizer"),
    (["--phases.dense.callbacks", "[null]"], "callbacks"),
    (["--phases.dense.callbacks", "{a: 1}"], "callbacks"),
    (["--network", "null"], "network"),
    (["--network.backbone", "null"], "backbone"),
    (["--network.options", "[1]"], "network"),
    (["--wandb", "null"], "wandb"),
    (["--config"], "--config: a config file is missing"),
    (["--config", "."], "is a folder; give a file of it"),
    (["--config", "/dev/null"], "/dev/null is a device; give a YAML file"),
    (["--trust"], "--trust: a value is missing"),
    (["surplus"], "surplus: an argument that belongs to no option"),
]


@pytest.mark.parametrize(("extra", "said"), WRONG, ids=lambda x: " ".join(x)[:40] if isinstance(x, list) else "")
def test_values_that_cannot_be(tmp_path, capsys, extra, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["pipeline", "--config", write_config(tmp_path)]
    if "--run_dir" not in extra and "--name" not in extra:
        given += ["--run_dir", tmp_path / "run"]
    assert said in sentence(capsys, *given, *extra)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_run_that_is_refused_late_leaves_no_folder(tmp_path, capsys):
    """Weights are read when the first phase begins; of the run's folder and those above it nothing stays."""
    given = ["pipeline", "--config", write_config(tmp_path), "--run_dir", tmp_path / "runs/new/run"]
    assert "nowhere.pth: there is no such file" in sentence(capsys, *given, "--init_from", "nowhere.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]


def test_what_is_expected_is_said_in_words(tmp_path, capsys):
    given = ["pipeline", "--config", write_config(tmp_path)]
    assert "seed: Expected a whole number. Got value: 1.5" in sentence(capsys, *given, "--seed", "1.5")
    assert "trainer: Expected a mapping. Got value: [1]" in sentence(capsys, *given, "--trainer", "[1]")


MEANT = [
    (["pipelin"], "did you mean 'pipeline'?"),
    (["pipeline", "--config", "{dir}/tini.yaml"], "did you mean {dir}/tiny.yaml?"),
    (["pipeline", "--config", "{config}", "--naem", "x"], "did you mean '--name'?"),
    (["pipeline", "--config", "{config}", "--phases.dens.max_epochs"], "did you mean '--phases.dense.max_epochs'?"),
    (["pipeline", "--config", "{config}", "--phases.dense.module.betta", "1"], "'--phases.dense.module.beta'?"),
    (["pipeline", "--config", "{config}", "--phases.dense.module", "Dens"], "did you mean Dense?"),
    (["pipeline", "--config", "{config}", "--phases.dense.module.optimizer", "AdmW"], "did you mean AdamW?"),
    (["pipeline", "--config", "{config}", "--phases.dense.module.optimizer.lrr", "1"], "optimizer.lr'?"),
    (["pipeline", "--config", "{config}", "--data", "ToyBird"], "did you mean ToyBirds?"),
    (["pipeline", "--config", "{config}", "--data.n_clases", "3"], "did you mean '--data.n_classes'?"),
    (["pipeline", "--config", "{config}", "--network.backbon", "x"], "did you mean '--network.backbone'?"),
    (["pipeline", "--config", "{config}", "--start_at", "finetun"], "did you mean 'finetune'?"),
    (["pipeline", "--config", "{config}", "--trainer.acelerator", "cpu"], "did you mean '--trainer.accelerator'?"),
    (["pipeline", "--config", "{config}", "--phases.finetune.module.source", "sparsif"], "did you mean 'sparsify'?"),
    (["fit", "--trainer.max_epoch", "1"], "did you mean '--trainer.max_epochs'?"),
    (["fit", "--model", "Dens"], "did you mean Dense?"),
    (["test", "--run_dirr", "x"], "--run_dir"),
    (["explain", "--run_dir", "x", "--imagse", "x"], "did you mean '--images'?"),
    (["predict", "--imaes", "x"], "did you mean '--images'?"),
    (["predict", "--batchsize", "1"], "did you mean '--batch_size'?"),
    (["report", "--run", "x"], "did you mean '--run_dir'?"),
]


KEYS = [
    ("naem", "x", "Option 'naem' is not accepted; did you mean 'name'?"),
    ("network.backbon", "x", "Option 'network.backbon' is not accepted; did you mean 'network.backbone'?"),
    ("wandb.projekt", "x", "'wandb.projekt' is not accepted; did you mean 'wandb.project'?"),
    ("phases.dense.max_epoch", 1, "did you mean 'phases.dense.max_epochs'?"),
    ("phases.dense.module.init_args.betta", 1, "dense.module: Option 'betta' is not accepted; did you mean 'beta'?"),
    ("data.init_args.n_clases", 3, "data: Option 'n_clases' is not accepted; did you mean 'n_classes'?"),
    ("seed", float("inf"), "bad.yaml: seed: Expected a whole number."),
    ("trainr.accelerator", "cpu", "is not accepted; did you mean 'trainer'?"),
    ("phases.dense.moule.init_args.beta", 1, "is not accepted; did you mean 'phases.dense.module'?"),
    ("phases.dense.daa.batch_size", 4, "is not accepted; did you mean 'phases.dense.data'?"),
    ("phases.dense.module.init_args.optimizr.init_args.lr", 1, "is not accepted; did you mean 'optimizer'?"),
    ("data", {"class_pah": "ToyBirds"}, "data: 'class_pah' is no key of a class; did you mean 'class_path'?"),
    ("data", {"class_path": "ToyBirds", "init_ars": {}}, "'init_ars' is no key of a class; did you mean 'init_args'?"),
    ("phases.dense.callbacks", [{"classpath": "Diversity"}], "is no key of a class; did you mean 'class_path'?"),
    ("name", "\ud800", "bad.yaml: not a YAML file"),
]


@pytest.mark.parametrize(("key", "value", "said"), KEYS, ids=lambda x: str(x)[:40].encode("ascii", "replace").decode())
def test_the_nearest_key_is_offered_in_a_config_as_well(tmp_path, capsys, key, value, said):
    config = tiny_config()
    *path, last = key.split(".")
    target = config
    for part in path:
        target = target.setdefault(part, {})
    target[last] = value
    (tmp_path / "bad.yaml").write_text(json.dumps(config))
    found = sentence(capsys, "pipeline", "--config", tmp_path / "bad.yaml", "--run_dir", tmp_path / "run")
    assert said in found
    assert "Parser key" not in found


@pytest.mark.parametrize(("arguments", "meant"), MEANT, ids=lambda x: str(x)[:60])
def test_the_nearest_name_is_offered(tmp_path, capsys, arguments, meant):
    config = write_config(tmp_path)
    given = [a.format(config=config, dir=tmp_path) for a in arguments]
    assert meant.format(dir=tmp_path) in sentence(capsys, *given)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--version"], "handful "),
        (["--help"], "tradeoff"),
        ([], "tradeoff"),
        (["pipeline", "--help"], "--start_at"),
        (["explain", "--help"], "--images"),
        (["predict", "--help"], "--trainer"),
    ],
)
def test_version_and_help(capsys, arguments, said):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code in (0, None)
    assert said in capsys.readouterr().out


def test_a_wrong_command_waits_for_nothing():
    """Torch and Lightning are not imported for the help, the version, or a command that does not exist."""
    code = "import sys; sys.argv = ['train.py', sys.argv[1]]\nfrom pipelines.cli import main\n"
    code += "try: main()\nfinally: assert not {'torch', 'lightning'} & set(sys.modules)"
    for argument, status in (("--help", 0), ("--version", 0), ("trane", 2)):
        done = subprocess.run([sys.executable, "-c", code, argument], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr


def test_names_of_folders():
    for name in ("run", "größe_3", "a-b", "v1.2", "x y"):
        check_name(name, "name")
    for name in ("", ".", "..", "a/b", "a\\b", "a\0", "~", "-", None, 3, "a..b", " a"):
        with pytest.raises(UserError, match="name"):
            check_name(name, "name")


def test_the_text_of_a_config_is_passed_on(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1e-3\n")
    arranged, files = configs_first(["--x", "--config", str(tmp_path / "a.yaml"), "--", "y"])
    assert arranged == ["--config=x: 1e-3\n", "--x", "--", "y"]
    assert files == [(tmp_path / "a.yaml", "x: 1e-3\n", {"x": "1e-3"})]


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps", "tpu"])
def test_an_accelerator_that_is_not_there_is_said(tmp_path, accelerator):
    if on_this_machine({"accelerator": accelerator})["accelerator"] == accelerator:
        pytest.skip(f"this machine has a {accelerator}")
    with pytest.warns(UserWarning, match=f"there is no {accelerator} on this machine; running on the CPU"):
        found = on_this_machine({"accelerator": accelerator, "devices": 4, "precision": "bf16-mixed"})
    assert found == {"accelerator": "cpu", "devices": 1, "precision": "bf16-mixed"}
    with pytest.raises(UserError, match="one of 2"):
        on_this_machine({"accelerator": accelerator, "num_nodes": 2})


def test_a_gpu_is_asked_for_in_vain(tmp_path):
    """The whole command, which ends on the CPU."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    dense = tiny_config()["phases"]["dense"] | {"callbacks": [], "max_epochs": 1}
    config = tiny_config(phases={"dense": dense}, trainer={"accelerator": "gpu", "devices": -1})
    main(["pipeline", "--config", str(write_config(tmp_path, **config)), "--run_dir", str(tmp_path / "run")])
    assert (tmp_path / "run/dense/done.json").is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1: 2\n", "line 1: the key 1 is a number"),
        ("phases:\n  1: {}\n", "line 2: the key 1 is a number"),
        ("data:\n  true: 3\n", "line 2: the key true is a truth value"),
        ("2024-01-01: x\n", "line 1: the key 2024-01-01 is a date"),
        ("name: a\n~: 4\n", "line 2: the key ~ is nothing"),
        ("? [a]\n: 1\n", "line 1: a key must be a name"),
    ],
)
def test_keys_that_are_no_text(tmp_path, text, said):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"keys.yaml: {said}"):
        read_config(path)
    path.write_text("'1': 2\n")
    assert read_config(path)[1] == {"1": 2}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fit", "add --config FILE, or --model CLASS"),
        ("test", "add --run_dir RUN, or --config FILE and --ckpt_path FILE"),
        ("validate", "add --run_dir RUN"),
        ("predict", r"add --run_dir RUN [--images FOLDER]"),
        ("explain", "--run_dir and --images must be given"),
        ("report", "--run_dir must be given"),
        ("tradeoff", "--run_dir must be given"),
    ],
)
def test_commands_without_options_say_what_to_give(capsys, command, said):
    assert said in sentence(capsys, command)


@pytest.mark.parametrize(
    ("option", "value"),
    [("devices", "x"), ("accelerator", "tpux"), ("limit_test_batches", "2.5"), ("accumulate_grad_batches", "0"),
     ("max_time", "yesterday"), ("log_every_n_steps", "0"), ("num_nodes", "0"), ("profiler", "x")],
)  # fmt: skip
def test_trainer_options_of_lightnings_commands_are_named(capsys, option, value, tmp_path):
    network = ["--model", "Dense", "--model.network", "{backbone: conv4}", "--data", "ToyBirds"]
    assert f"trainer.{option}: " in sentence(capsys, "fit", *network, f"--trainer.{option}", value)
