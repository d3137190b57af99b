"""Phases in rounds, written out."""

import pytest
from PIL import Image

from handful.errors import UserError
from pipelines.parse import parse_pipeline
from pipelines.rounds import with_rounds


def phase(source=None, **others):
    return {"module": {"class_path": "X", "init_args": {} if source is None else {"source": source}}, **others}


PHASES = {
    "dense": phase(),
    "sparsify": phase("dense"),
    "finetune": phase("sparsify", max_epochs=3),
    "evaluate": phase(),
}


def test_each_round_reads_the_one_before():
    found = with_rounds(PHASES, {"phases": ["sparsify", "finetune"], "times": 3})
    assert list(found) == [
        "dense", "sparsify", "finetune", "sparsify-2", "finetune-2", "sparsify-3", "finetune-3", "evaluate"
    ]  # fmt: skip
    sources = {name: phase["module"]["init_args"].get("source") for name, phase in found.items()}
    assert sources["sparsify-2"] == "finetune"
    assert sources["finetune-2"] == "sparsify-2"
    assert sources["sparsify-3"] == "finetune-2"
    assert sources["finetune-3"] == "sparsify-3"


def test_values_by_round_leave_the_others_alone():
    rounds = {"phases": ["sparsify", "finetune"], "times": 2, "values": {"finetune.max_epochs": [1, 9]}}
    found = with_rounds(PHASES, rounds)
    assert [found[name]["max_epochs"] for name in ("finetune", "finetune-2")] == [1, 9]
    assert PHASES["finetune"]["max_epochs"] == 3
    assert with_rounds(PHASES, {}) == PHASES


@pytest.mark.parametrize(("rounds", "words"), [
    ({"phase": ["finetune"]}, "no key 'phase'; did you mean 'phases'"),
    ({"phases": []}, "a list of phases is missing"),
    ({"phases": ["finetun"]}, "no phase 'finetun'; did you mean 'finetune'"),
    ({"phases": ["finetune", "sparsify"]}, "do not follow one another"),
    ({"phases": ["dense"]}, "dense reads no source"),
    ({"phases": ["finetune"], "times": 0}, "a whole number from 1"),
    ({"phases": ["finetune"], "times": 2, "values": {"finetune.max_epochs": [1]}}, "a list of 2 values"),
    ({"phases": ["finetune"], "times": 2, "values": {"dense.max_epochs": [1, 2]}}, "not of a phase of the rounds"),
    ({"phases": ["finetune"], "times": 1, "values": {"finetune.max_epoch": [1]}}, "did you mean 'max_epochs'"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(rounds, words):
    with pytest.raises(UserError, match=words):
        with_rounds(PHASES, rounds)


def test_q_senns_config_and_options_for_all_rounds():
    pipeline, _ = parse_pipeline(
        ["--config", "configs/qsenn/quickstart.yaml", "--phases.finetune.module.beta", "0.5"]
    )
    names = ["dense", "sparsify", "finetune", "sparsify-2", "finetune-2", "sparsify-3", "finetune-3", "evaluate"]
    assert list(pipeline.phases) == names
    assert [pipeline.phases[name].max_epochs for name in names[2::2]] == [2, 2, 4, 0][: len(names[2::2])]
    assert all(pipeline.phases[name].module["init_args"]["beta"] == 0.5 for name in names[2:7:2])


@pytest.mark.parametrize("config", ["qpm/quickstart", "chiqpm/quickstart"])
def test_the_other_configs_are_whole(config):
    assert "assign" in parse_pipeline(["--config", f"configs/{config}.yaml"])[0].phases


@pytest.mark.parametrize("kind", ["qpm", "chiqpm", "qsenn"])
def test_the_recipes_are_whole(kind, tmp_path):
    for split in ("train", "test"):
        for name in ("owl", "wren"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (40 * number, 0, 90)).save(tmp_path / split / name / f"{split}{number}.png")
    for config in ("reference_resnet50", "photos"):
        arguments = ["--config", f"configs/{kind}/{config}.yaml", "--data.root", str(tmp_path)]
        pipeline, _ = parse_pipeline(arguments)
        finetuned = [phase.max_epochs for name, phase in pipeline.phases.items() if name.startswith("finetune")]
        assert len(finetuned) == (4 if kind == "qsenn" else 1)
        assert all(epochs > 0 for epochs in finetuned)
