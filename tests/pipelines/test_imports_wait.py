"""Help and refusals come at once: torch, Lightning and timm are not imported for them."""

import json
import re
import subprocess
import sys
from typing import get_type_hints

import pytest
import yaml
from jsonargparse import Namespace
from PIL import Image

from handful.errors import UserError
from pipelines.class_arguments import arguments_of, fields_of, trainer_arguments
from pipelines.cli import COMMANDS
from pipelines.commands.value_check import check_stage, check_values
from pipelines.config_check import check_class_name
from pipelines.option_check import check_options
from tests.helpers.finished_run import write_run
from tests.helpers.pipeline import ROOT, write_config

HEAVY = {"torch", "lightning", "timm", "torchvision", "matplotlib", "wandb", "scipy", "sklearn"}

RUN = """
import contextlib, io, json, sys
from pipelines.cli import main
found = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
            status = 0
        except SystemExit as end:
            status = end.code or 0
    found.append([status, out.getvalue(), err.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})])
print(json.dumps(found))
"""


def answers(cases, folder):
    """What the command line says to each list of arguments, in one process, and what is imported by then."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(cases)], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_of_every_command_waits_for_no_import(tmp_path):
    cases = [["--help"], *([command, option] for command in COMMANDS for option in ("--help", "-h"))]
    cases += [["predict", "--images", "x", "--help"], ["pipeline", "--config", "x.yaml", "--help"]]
    for case, (status, out, err, imported) in zip(cases, answers(cases, tmp_path), strict=True):
        assert (status, err) == (0, ""), case
        assert "--" in out
        assert not HEAVY & set(imported), case


def test_the_help_of_slow_commands_names_what_a_person_needs(tmp_path):
    wanted = {
        "pipeline": ("--data.root", "--phases.PHASE.max_epochs", "--start_at", "--help_all"),
        "predict": ("--images", "--run_dir", "--phase", "--trainer.NAME", "--sets"),
        "test": ("--run_dir", "--phase", "--ckpt_path"),
        "validate": ("--run_dir", "--phase"),
        "fit": ("--model", "--data", "--config"),
    }
    for (command, options), (_, out, _, _) in zip(
        wanted.items(), answers([[command, "--help"] for command in wanted], tmp_path), strict=True
    ):
        assert all(option in out for option in options), command
        assert max(map(len, out.splitlines())) <= 100


WRONG = [
    (["pipelin"], "did you mean 'pipeline'?"),
    (["explain", "--run_dir", "x", "--imagse", "x"], "did you mean '--images'?"),
    (["explain", "--run_dir", "nowhere", "--images", "."], "nowhere: there is no such folder"),
    (["explain", "--run_dir", "x", "--images", ".", "--features", "many"], "features: Expected a whole number"),
    (["explain", "--run_dir", "x", "--images", ".", "--sets", "all"], "sets: "),
    (["explain", "--images", "x"], "--run_dir must be given"),
    (["predict", "--run_dir", "x", "--images", ".", "--stage", "x"], "--stage: there is no such option"),
    (["evaluate", "--run_dir", "x", "--measure", "x"], "did you mean '--measures'?"),
    (["evaluate", "--run_dir", "x", "--images", "half"], "images: Expected a whole number"),
    (["evaluate", "nowhere"], "nowhere: an argument that belongs to no option"),
    (["report", "--run", "x"], "did you mean '--run_dir'?"),
    (["compare", "--run_dirs", "a", "b"], "a: there is no such folder"),
    (["tradeoff", "--run_dir", "nowhere"], "nowhere: there is no such folder"),
    (["export", "--run_dir", "nowhere"], "nowhere: there is no such folder"),
    (["push", "--run_dir", "x"], "--repo_id must be given"),
    (["demo", "--run_dir", "x", "--port", "http"], "port: Expected a whole number"),
    (["explain", "--run_dir", "run", "--images", ".", "--methods", "cam,igg"], "--methods: there is no 'igg'; did you"),
    (["explain", "--run_dir", "run", "--images", ".", "--stage", "densee"], "no finished stage 'densee'"),
    (["export", "--run_dir", "run", "--stage", "densee"], "did you mean 'dense'?"),
    (["export", "--run_dir", "run", "--to", "onnxx"], "to: Expected one of 'safetensors', 'onnx', 'torch_export'"),
    (["evaluate", "--run_dir", "run", "--measures", "featurs"], "there is no 'featurs'; did you mean 'features'"),
    (["probe", "--run_dir", "run", "--fill", "meen"], "fill: Expected one of 'mean', 'blur', 'other'"),
    (["demo", "--run_dir", "run", "--port", "70000"], "--port: from 1 to 65535, not 70000"),
    (["test", "--run_dir", "run", "--phase", "densee"], "no finished stage 'densee'"),
    (["predict", "--run_dir", "run", "--images", ".", "--phase", "densee"], "no finished stage 'densee'"),
    (["probe", "--rundir", "x"], "did you mean '--run_dir'?"),
    (["pipeline", "--naem", "x"], "did you mean '--name'?"),
    (["pipeline", "--config", "nowhere.yaml"], "there is no file nowhere.yaml"),
    (["pipeline", "--config", "tiny.yaml", "--seed", "1.5"], "seed: Expected a whole number. Got value: 1.5"),
    (["pipeline", "--config", "tiny.yaml", "--phases.dense.max_epochs=many"], "max_epochs: Expected a whole number"),
    (["pipeline", "--config", "tiny.yaml", "--phases.dens.max_epochs", "3"], "'--phases.dense.max_epochs'?"),
    (["pipeline", "--config", "tiny.yaml", "--phases.dense.max_epoch", "3"], "'--phases.dense.max_epochs'?"),
    (["pipeline", "--config", "tiny.yaml", "--phases.dense.module.betta", "3"], "'--phases.dense.module.beta'?"),
    (["pipeline", "--config", "tiny.yaml", "--data.n_clases", "3"], "did you mean '--data.n_classes'?"),
    (["pipeline", "--data.rot", "x"], "did you mean '--data.root'?"),
    (["pipeline", "--network.backbon", "x"], "did you mean '--network.backbone'?"),
    (["pipeline", "--trainer.acelerator", "cpu"], "did you mean '--trainer.accelerator'?"),
    (["pipeline", "--wandb.mod", "x"], "did you mean '--wandb.mode'?"),
    (["pipeline", "--phases.dense.module.beta", "abc"], "phases.dense.module.beta: Expected a number. Got value: abc"),
    (["pipeline", "--phases.dense.module.init_args.beta=abc"], "beta: Expected a number. Got value: abc"),
    (["pipeline", "--phases.sparsify.module.solver", "exct"], "solver: Expected one of 'exact', 'saga', 'glm_saga'"),
    (["pipeline", "--phases.sparsify.module.n_features", "some"], "Expected a whole number; Expected one of 'all'"),
    (["pipeline", "--phases.dense.module.train_backbone", "maybe"], "train_backbone: Expected true or false"),
    (["pipeline", "--phases.dense.module.mutual_channel", "5"], "mutual_channel: Expected a mapping"),
    (["pipeline", "--data.n_classes", "many"], "data.n_classes: Expected a whole number. Got value: many"),
    (["pipeline", "--data.root", ".", "--data.fit", "stretch"], "data.fit: Expected one of 'crop', 'pad', 'squash'"),
    (["pipeline", "--data.root", ".", "--data.unreadable", "x"], "data.unreadable: Expected one of 'refuse', 'skip'"),
    (["pipeline", "--network.dropout", "x"], "network.dropout: Expected a number. Got value: x"),
    (["pipeline", "--wandb.mode", "of"], "wandb.mode: Expected one of 'auto', 'online', 'offline', 'disabled'"),
    (["pipeline", "--trainer.max_epochs", "ten"], "trainer.max_epochs: Expected a whole number"),
    (["pipeline", "--phases.dense.trainer.gradient_clip_val", "x"], "gradient_clip_val: Expected a whole number"),
    (["fit", "--model", "Dense", "--model.beta", "abc"], "model.beta: Expected a number. Got value: abc"),
    (["pipeline", "--phases.dense.module.optimizer.lr", "abc"], "optimizer.lr: Expected a number. Got value: abc"),
    (["pipeline", "--phases.dense.module.init_args.optimizer.init_args.lr=abc"], "optimizer.init_args.lr: Expected a"),
    (["pipeline", "--phases.dense.module.optimizer.lrr", "1"], "'--phases.dense.module.optimizer.lr'?"),
    (["pipeline", "--phases.dense.module.lr_scheduler.T_max", "x"], "T_max: Expected a whole number. Got value: x"),
    (["pipeline", "--phases.dense.module.optimizer", "SGD", "--phases.dense.module.optimizer.momentum", "x"],
     "momentum: Expected a number"),
    (["pipeline", "--phases.dense.module.optimizer", "AdmW"], "there is no class 'AdmW'; did you mean AdamW?"),
    (["pipeline", "--phases.dense.module", "Dens"], "there is no class 'Dens'; did you mean Dense?"),
    (["pipeline", "--data", "ToyBird"], "there is no class 'ToyBird'; did you mean ToyBirds?"),
    (["explain", "--run_dir", "run", "--images", ".", "--features", "0"], "--features: at least 1, not 0"),
    (["explain", "--run_dir", "run", "--images", ".", "--max_megapixels", "0"], "--max_megapixels: above 0, not 0"),
    (["evaluate", "--run_dir", "run", "--conformal", "2"], "--conformal: above 0 and below 1, not 2.0"),
    (["evaluate", "--run_dir", "run", "--images", "0"], "--images: at least 1, not 0"),
    (["predict", "--run_dir", "run", "--images", ".", "--batch_size", "-1"], "--batch_size: at least 1, not -1"),
    (["probe", "--run_dir", "run", "--images", "-4"], "--images: at least 1, not -4"),
    (["report", "--run_dir", "run", "--images", "0"], "--images: at least 1, not 0"),
    (["tradeoff", "--run_dir", "run", "--n_features", "4,0"], "--n_features: at least 1, not 0"),
    (["pipeline", "--network.backbone", "resnet5O"], "network.backbone: timm knows no model 'resnet5O'; did you mean"),
    (["pipeline", "--data.image_size", "-3"], "--data.image_size: at least 1, not -3"),
    (["pipeline", "--data.root", ".", "--data.val_fraction=1.5"], "val_fraction: at least 0 and below 1, not 1.5"),
    (["pipeline", "--network.dropout", "1"], "--network.dropout: at least 0 and below 1, not 1"),
    (["pipeline", "--seed", "-1"], "--seed: at least 0, not -1"),
    (["pipeline", "--phases.dense.max_epochs", "-2"], "--phases.dense.max_epochs: at least 0, not -2"),
    (["pipeline", "--phases.sparsify.module.n_features", "0"], "n_features: at least 1, not 0"),
    (["pipeline", "--phases.dense.module.optimizer.lr=-1"], "optimizer.lr: at least 0, not -1"),
    (["pipeline", "--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches: at least 1, not 0"),
    (["fit", "--trainer.max_epoch", "1"], "did you mean '--trainer.max_epochs'?"),
    (["fit", "--model", "Dense", "--model.betta", "1"], "did you mean '--model.beta'?"),
    (["test", "--run_dirr", "x"], "did you mean '--run_dir'?"),
    (["test", "--run_dir", "nowhere"], "nowhere: there is no such folder"),
]


def test_a_wrong_option_waits_for_no_import(tmp_path):
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run")
    write_config(tmp_path)
    for (case, said), (status, _, err, imported) in zip(
        WRONG, answers([case for case, _ in WRONG], tmp_path), strict=True
    ):
        assert status == 2, (case, err)
        assert said in err, case
        assert len(err.splitlines()) == 1
        assert not HEAVY & set(imported), case


_DENSE = "phases.dense.module.init_args."
_STOPPING = "lightning.pytorch.callbacks.EarlyStopping"

#: Key of a config, its value, and what is said.
WRONG_IN_A_CONFIG = [
    ("naem", "x", "Option 'naem' is not accepted; did you mean 'name'?"),
    ("seed", 1.5, "seed: Expected a whole number. Got value: 1.5"),
    ("loggers", ["wandb"], "loggers: Expected a text. Got value: ['wandb']"),
    ("network.backbon", "x", "Option 'network.backbon' is not accepted; did you mean 'network.backbone'?"),
    ("network.dropout", "x", "network.dropout: Expected a number. Got value: x"),
    ("wandb.mode", "of", "wandb.mode: Expected one of 'auto', 'online', 'offline', 'disabled'"),
    ("trainer.max_epochs", "ten", "trainer.max_epochs: Expected a whole number"),
    ("trainer.acelerator", "cpu", "did you mean 'trainer.accelerator'?"),
    ("phases.dense.max_epoch", 3, "did you mean 'phases.dense.max_epochs'?"),
    ("phases.dense.max_epochs", "many", "phases.dense.max_epochs: Expected a whole number. Got value: many"),
    ("phases.dense.trainer.gradient_clip_val", "x", "gradient_clip_val: Expected a whole number"),
    ("phases.dense.module.class_path", "Dens", "phases.dense.module: there is no class 'Dens'; did you mean Dense?"),
    (_DENSE + "betta", 1, "phases.dense.module: Option 'betta' is not accepted; did you mean 'beta'?"),
    (_DENSE + "beta", "abc", "phases.dense.module.beta: Expected a number. Got value: abc"),
    (_DENSE + "beta", [1], "phases.dense.module.beta: Expected a number. Got value: [1]"),
    (_DENSE + "optimizer.init_args.lr", "abc", "optimizer.lr: Expected a number. Got value: abc"),
    (_DENSE + "optimizer.init_args.lrr", 1, "optimizer: Option 'lrr' is not accepted; did you mean 'lr'?"),
    (_DENSE + "optimizer.init_args.betas", [0.9], "betas: Expected a tuple with 2 elements"),
    (_DENSE + "optimizer.class_path", "torch.optim.AdmW", "there is no class 'torch.optim.AdmW'; did you mean AdamW?"),
    (_DENSE + "optimizer", "AdmW", "there is no class 'AdmW'; did you mean AdamW?"),
    (_DENSE + "lr_scheduler", {"class_path": "CosineAnnealingLR", "init_args": {"T_max": "x"}}, "lr_scheduler.T_max: "),
    (_DENSE + "lr_scheduler.class_path", "CosinAnnealingLR", "did you mean CosineAnnealingLR?"),
    ("data.class_path", "ToyBird", "data: there is no class 'ToyBird'; did you mean ToyBirds?"),
    ("data.init_args.n_clases", 3, "data: Option 'n_clases' is not accepted; did you mean 'n_classes'?"),
    ("data.init_args.difficulty", "hardd", "data.difficulty: Expected one of 'easy', 'medium', 'hard'"),
    ("phases.dense.callbacks", [{"class_path": "callbacks.Diversity", "init_args": {"k": "x"}}],
     "phases.dense.callbacks[0].k: Expected a whole number. Got value: x"),
    ("phases.dense.callbacks", [{"class_path": "callbacks.AttributionMaps", "init_args": {"methods": 7}}],
     "methods: Expected a list. Got value: 7"),
    ("phases.dense.callbacks", ["callbacks.Diversit"], "did you mean Diversity?"),
    ("seed", -1, "seed: at least 0, not -1"),
    ("phases.dense.max_epochs", -3, "phases.dense.max_epochs: at least 0, not -3"),
    ("network.backbone", "efficientnet_lite9", "network.backbone: timm knows no model 'efficientnet_lite9'; did you"),
    ("network.image_size", 0, "network.image_size: at least 1, not 0"),
    ("data.init_args.batch_size", 0, "data.batch_size: at least 1, not 0"),
    (_DENSE + "label_smoothing", 1.0, "label_smoothing: at least 0 and below 1, not 1.0"),
    (_DENSE + "optimizer.init_args.weight_decay", -0.1, "optimizer.weight_decay: at least 0, not -0.1"),
    ("trainer.log_every_n_steps", 0, "trainer.log_every_n_steps: at least 1, not 0"),
    ("phases.dense.callbacks", [{"class_path": _STOPPING, "init_args": {"monitor": "x", "patienc": 3}}],
     "Option 'patienc' is not accepted; did you mean 'patience'?"),
]  # fmt: skip


def test_a_wrong_value_in_a_config_waits_for_no_import(tmp_path):
    cases = []
    for number, (key, value, _) in enumerate(WRONG_IN_A_CONFIG):
        config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
        *path, last = key.split(".")
        target = config
        for part in path:
            target = target.setdefault(part, {})
        target[last] = value
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        cases.append(["pipeline", "--config", f"{number}.yaml"])
    found = zip(WRONG_IN_A_CONFIG, answers(cases, tmp_path), strict=True)
    for number, ((key, _, said), (status, _, err, imported)) in enumerate(found):
        assert status == 2, (key, err)
        assert err.startswith(f"handful: {number}.yaml: "), err
        assert said in err, key
        assert not HEAVY & set(imported), key


#: What a class takes, in ways that differ from its plain type.
RIGHT_IN_A_CONFIG = [
    (_DENSE + "optimizer", "torch.optim.SGD"), (_DENSE + "optimizer.init_args.lr", 1), (_DENSE + "lr_scheduler", None),
    (_DENSE + "optimizer.class_path", "lightning_modules.classifier.sgd"), (_DENSE + "optimizer.init_args.lr", "1e-3"),
    ("data.init_args.n_classes", "4"), ("phases.dense.callbacks", ["callbacks.Diversity"]), ("seed", "1"),
    ("phases.dense.callbacks", [{"class_path": _STOPPING, "init_args": {"monitor": "val/loss", "patience": 2}}]),
    ("phases.dense.callbacks", [{"class_path": "my_package.Mine", "init_args": {"k": "x"}}]),
    ("phases.dense.trainer", {"devices": "auto", "precision": "bf16-mixed", "gradient_clip_val": 1}),
]  # fmt: skip


def test_every_shipped_config_passes_and_what_classes_take(tmp_path):
    shipped = [file for file in sorted((ROOT / "configs").rglob("*.yaml")) if "phases:" in file.read_text()]
    assert len(shipped) > 20
    for file in shipped:
        if file.name not in ("mcl.yaml", "without_l_div.yaml"):  # which go behind another
            check_options("pipeline", ["--config", str(file)])
    for key, value in RIGHT_IN_A_CONFIG:
        config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
        *path, last = key.split(".")
        target = config
        for part in path:
            target = target.setdefault(part, {})
        target[last] = value
        (tmp_path / "right.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        check_options("pipeline", ["--config", str(tmp_path / "right.yaml")])
        with pytest.raises(UserError, match="there is no class"):
            check_options("pipeline", ["--config", str(tmp_path / "right.yaml"), "--data", "Wrong"])
        check_options("pipeline", ["--config", str(tmp_path / "right.yaml"), "--data", "Mine"], others=True)


#: Spellings that the parsers take: keys with dots, appended lists, null, merged mappings.
RIGHT_SPELLINGS = [
    "wandb.mode: disabled",
    "network.backbone: conv4",
    "phases.finetune.max_epochs: 7",
    "phases.dense.module.class_path: Dense",
    "phases.dense.module.init_args.optimizer.init_args.lr: 0.1",
    "phases.dense.module.beta: 0.1",
    "phases: {dense: {module.init_args.beta: 0.1}}",
    "phases: {dense: {module: {init_args.beta: 0.1}}}",
    "phases: {dense: {module: {init_args: {optimizer.init_args.lr: 0.1}}}}",
    "data: ToyBirds\ndata.init_args.n_classes: 4",
    "data.n_classes: 4",
    "trainer: {max_epochs: 3}\ntrainer.precision: 32",
    "phases.dense.callbacks+: [{class_path: callbacks.Diversity, init_args: {k: 3}}]",
    "phases: {dense: {callbacks+: [callbacks.Diversity]}}",
    "phases: {dense: {callbacks+: callbacks.Diversity}}",
    "phases: {dense: {callbacks+: {class_path: callbacks.Diversity}}}",
    "phases: {dense: {callbacks: [{class_path: callbacks.AttributionMaps, init_args: {methods+: [cam]}}]}}",
    "phases: {dense: {callbacks: null, trainer: null, data: null}}\nrounds: null\nrun_dir: null",
    "phases:\n  dense: &d {max_epochs: 1}\n  sparsify: &e {trainer: {max_epochs: 1}}\n  finetune: {<<: [*d, *e]}",
    "phases: {'d*': {trainer: {precision: 32}}}",
]

WRONG_SPELLINGS = [
    ("wandb.mdoe: disabled", "Option 'wandb.mdoe' is not accepted; did you mean 'wandb.mode'?"),
    ("wandb.mode: of", "wandb.mode: Expected one of"),
    ("wandbb.mode: disabled", "Option 'wandbb' is not accepted; did you mean 'wandb'?"),
    ("phases.dense.max_epoch: 7", "did you mean 'phases.dense.max_epochs'?"),
    ("phases.dense.module.class_path: Dens", "there is no class 'Dens'; did you mean Dense?"),
    ("phases.dense.module.init_args.betta: 1", "Option 'betta' is not accepted; did you mean 'beta'?"),
    ("phases: {dense: {callbaks+: [callbacks.Diversity]}}", "Option 'phases.dense.callbaks+' is not accepted"),
    ("phases.dense.callbacks+: [callbacks.Diversit]", "callbacks+[0]: there is no class 'callbacks.Diversit'; did you"),
    ("phases.dense.callbacks+: [{class_path: callbacks.Diversity, init_args: {k: x}}]", "k: Expected a whole number"),
    ("name+: x", "Option 'name+' is not accepted"),
]  # fmt: skip


def test_every_spelling_of_a_config_that_the_parser_takes_passes(tmp_path):
    from pipelines.parse import prepare_pipeline

    file = tmp_path / "more.yaml"
    given = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--config", str(file)]
    for text in RIGHT_SPELLINGS:
        file.write_text(text)
        check_options("pipeline", given)
        parser, arranged = prepare_pipeline(given)
        parser.parse_args(arranged)
    for text, said in WRONG_SPELLINGS:
        file.write_text(text)
        with pytest.raises(UserError, match=re.escape(said)):
            check_options("pipeline", given)


def test_names_that_trusted_packages_may_register_are_not_refused_early(monkeypatch):
    for name, module in (("methods", "handful.attribution.registry"), ("measures", "pipelines.measures.registry")):
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(UserError, match="there is no 'brightness'"):
            check_values(Namespace(**{name: "brightness"}))
        check_values(Namespace(**{name: "brightness"}), others=True)


OWN_METHOD = """
from handful.attribution import register

@register("brightness")
def brightness(context):
    return context.images.mean(dim=1, keepdim=True).expand(-1, context.targets.count, -1, -1)
"""


def test_a_method_of_a_trusted_package_is_drawn(tmp_path):
    run = write_run(tmp_path)
    (tmp_path / "my_methods.py").write_text(OWN_METHOD)
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    given = ["explain", "--run_dir", str(run), "--images", str(tmp_path / "a.png"), "--methods", "brightness"]
    environment = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{tmp_path}", "HOME": str(tmp_path), "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = subprocess.run(
        [sys.executable, ROOT / "train.py", *given, "--out", tmp_path / "out", "--trust", "my_methods"],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr


@pytest.mark.parametrize("stage", ["dense-50", "dense 50", "5", "a.b"])
def test_a_stage_is_found_whatever_its_name(stage, tmp_path):
    run = write_run(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    stages = {stage: "dense", "sparse": "finetune"}
    config["phases"]["evaluate"] = {"module": {"class_path": "Evaluate", "init_args": {"stages": stages}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    check_stage(run, stage)
    for other in ("dense-51", "50", "densee"):
        with pytest.raises(UserError, match="no finished stage"):
            check_stage(run, other)


@pytest.mark.parametrize("path", ["torch.nn.ReLU", "torch.device", "torch.nn.Module", "torch.nothing.Adam",
                                  "pipelines.config.Pipeline", "pipelines.runner.Runner", "torch.optim.adam.Tensor",
                                  "callbacks.Diversity", "lightning.pytorch.LightningModule"])  # fmt: skip
def test_a_class_that_exists_is_not_said_to_be_missing(path):
    check_class_name("key", path)


def test_classes_that_a_module_cannot_have_are_refused():
    for path in ("torch.optim.AdmW", "torch.optim.adam.Admm", "callbacks.Diversit", "lightning_modules.Dens"):
        with pytest.raises(UserError, match=f"key: there is no class '{path}'"):
            check_class_name("key", path)


def test_the_short_look_refuses_nothing_that_the_parsers_take(tmp_path):
    """Every option of the full parsers passes."""
    from pipelines.parse import pipeline_parser, prepare_pipeline

    config = str(write_config(tmp_path))
    parser, _ = prepare_pipeline(["--config", config])
    strings = {string for action in parser._actions for string in action.option_strings} - {"--config"}
    assert len(strings) > 40
    for string in strings:
        check_options("pipeline", ["--config", config, string])
    assert pipeline_parser(["dense"])
    for option in ("--data.init_args.seed", "--phases.dense.module.init_args.optimizer.init_args.lr",
                   "--trainer.callbacks+", "--phases.dense.callbacks+", "--phases.dense.module.optimizer.lr",
                   "--data.help"):  # fmt: skip
        check_options("pipeline", ["--config", config, option])


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_every_option_of_lightnings_commands_passes(command, capsys):
    from pipelines.cli import main

    with pytest.raises(SystemExit):
        main([command, "--help_all"])
    out = capsys.readouterr().out
    options = {found.rstrip(".") for found in re.findall(r"--[a-z][\w.]+", out)}
    assert len(options) > 40
    for option in options - {"--config", "--trust"}:
        check_options(command, [option])


def test_arguments_read_from_sources_are_those_of_the_classes():
    import inspect

    import lightning.pytorch as pl

    import datamodules
    import lightning_modules
    import pipelines.phases as phases
    from handful.networks import NetworkConfig
    from pipelines.config import WandbConfig

    for package, base in ((datamodules, datamodules.HandfulDataModule), (lightning_modules, pl.LightningModule),
                          (phases, phases.Phase)):  # fmt: skip
        for value in vars(package).values():
            if inspect.isclass(value) and issubclass(value, base) and value is not base:
                found = arguments_of(value.__name__)
                own = {name for name, one in inspect.signature(value).parameters.items() if one.kind != one.VAR_KEYWORD}
                assert found is not None or own <= {"args"}, value
                assert own <= set(found or own), value
                hints = get_type_hints(value.__init__)
                types = {name: argument.type for name, argument in (found or {}).items() if name in hints}
                assert all(kind in (None, hints[name]) for name, kind in types.items()), value
                assert len([kind for kind in types.values() if kind is not None]) >= len(types) // 2 - 1, value
    assert set(trainer_arguments()) == set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert set(fields_of("handful/networks/build.py", "NetworkConfig")) == set(vars(NetworkConfig()))
    assert set(fields_of("pipelines/config.py", "WandbConfig")) == set(vars(WandbConfig()))
    assert arguments_of("my_package.Dense") is None
    assert arguments_of("Nothing") is None
