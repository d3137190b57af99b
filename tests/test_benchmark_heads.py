"""Heads on one dense training: the phases are shared, epochs too, and the tables hold what the runs reached."""

import pytest

from benchmarks.heads import RUNS, K, config_of, folder_of, found_run, measure, pipeline_of, split_epochs
from benchmarks.heads_table import COLUMNS, HEADS, Found, lines_of, table_in, table_of
from handful.errors import UserError
from pipelines.runner import Runner

TINY = [
    "--network.options", "{width: 4}", "--data.n_classes", "4", "--data.images_per_class", "8",
    "--data.image_size", "24", "--data.val_images_per_class", "3", "--data.test_images_per_class", "5",
    "--phases.dense.max_epochs", "1", "--phases.finetune.max_epochs", "4", "--trainer.enable_progress_bar", "false",
    "--phases.dense.callbacks", "[]", "--phases.finetune.callbacks", "[]",
]  # fmt: skip


@pytest.mark.parametrize("total", [4, 5, 6, 9, 40, 70])
def test_q_senns_rounds_have_the_epochs_of_the_others(total):
    epochs = split_epochs(total)
    assert sum(epochs) == total
    assert min(epochs) >= 1
    assert epochs == sorted(epochs)


@pytest.mark.parametrize("recipe", RUNS)
def test_every_recipe_has_a_config_for_every_head(recipe):
    assert all(config_of(head, recipe).is_file() for head in HEADS)
    assert K[recipe] > 0


def test_too_few_epochs_for_the_rounds_is_one_sentence():
    with pytest.raises(UserError, match="4 rounds need 4 epochs"):
        split_epochs(3)


def test_heads_share_a_dense_phase(tmp_path):
    """SLDD, then Q-SENN on its dense phase: the same bits, the same epochs of finetuning in all, rows in the table."""
    sldd = pipeline_of("sldd", "quickstart", tmp_path, 1, TINY)
    Runner(sldd).run()
    measure(folder_of(tmp_path, 1, "sldd"), None)
    qsenn = pipeline_of("qsenn", "quickstart", tmp_path, 1, TINY)
    rounds = [phase for name, phase in qsenn.phases.items() if name.startswith("finetune")]
    assert sum(phase.max_epochs for phase in rounds) == sldd.phases["finetune"].max_epochs
    Runner(qsenn).run()
    measure(folder_of(tmp_path, 1, "qsenn"), None)
    folders = [folder_of(tmp_path, 1, head) / "dense" for head in ("sldd", "qsenn")]
    assert (folders[0] / "done.json").read_bytes() == (folders[1] / "done.json").read_bytes()
    found = {(1, head): found_run(folder_of(tmp_path, 1, head)) for head in ("sldd", "qsenn")}
    lines = lines_of(table_of(found, 1), 1)
    names = [line.split(" | ")[1] for line in lines if line.startswith("| 1 | ")]
    assert names == ["dense", "SLDD", "Q-SENN", "SLDD", "Q-SENN"]
    row = next(line for line in lines if line.startswith("| 1 | Q-SENN")).split(" | ")
    stages = found[1, "qsenn"].stages
    assert row[2:4] == [f"{stages[name]['accuracy']:.2f}" for name in ("ternary", "finetuned")]
    # every measure was taken; SID has no value where the class that all images are given has no weights
    assert {"sid@1", *COLUMNS.values()} <= set(found[1, "qsenn"].measures["finetuned"])
    assert "–" not in row[7:]


def made_up(accuracy):
    stages = {"dense": {"accuracy": 90.0}, "binary": {"accuracy": 50.0}, "finetuned": {"accuracy": accuracy}}
    return Found(stages, {}, {"dense": 10.0, "assign": 1.0})


def test_means_over_seeds_and_what_was_not_measured():
    lines = lines_of(table_of({(0, "qpm"): made_up(80.0), (1, "qpm"): made_up(84.0)}, 5), 5)
    assert "| 0 | QPM | 50.00 | 80.00 | – | – | – | – | – | – | – |" in lines
    assert any(line.startswith("| mean | QPM | 50.00 ± 0.00 | 82.00 ± 2.83 | –") for line in lines)
    assert "| 1 | QPM | dense 10, assign 1 |" in lines


def test_rows_of_runs_that_are_gone_stay_and_count_in_the_means():
    before = {(0, "qpm"): made_up(80.0), (1, "qpm"): made_up(70.0), (0, "sldd"): made_up(60.0)}
    text = "\n".join(lines_of(table_of(before, 5), 5))
    now = {(1, "qpm"): made_up(84.0)}
    found = lines_of(table_of(now, 5).over(table_in(text, 5)), 5)
    assert found == lines_of(table_of({**before, **now}, 5).over(table_in("", 5)), 5)
    assert lines_of(table_of(now, 3).over(table_in(text, 3)), 3) == lines_of(table_of(now, 3), 3), "other columns"
