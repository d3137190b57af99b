"""What a phase takes from earlier ones is checked before the first phase starts."""

import re

import pytest

from pipelines.cli import main
from tests.helpers.pipeline import write_config

FILTERS = {
    "dense": {"module": {"class_path": "Dense"}, "max_epochs": 1},
    "filters": {"module": {"class_path": "FindFilters"}},
    "decompose": {"module": {"class_path": "Decompose"}},
    "retrain": {"module": {"class_path": "Retrain", "init_args": {"source": "decompose"}}, "max_epochs": 1},
}
PLUGIN = {
    "dense": {"module": {"class_path": "Dense"}, "max_epochs": 1},
    "plugin": {"module": {"class_path": "InfoMaxPlugin"}, "max_epochs": 1},
    "compare": {"module": {"class_path": "CompareMaps", "init_args": {"plugins": {"one": "plugin"}}}},
}


@pytest.mark.parametrize(
    ("phases", "option", "value", "words"),
    [
        (FILTERS, "filters.module.source", "dens", "phases.filters: .*leaves a classifier; no 'dens'.*mean 'dense'"),
        (FILTERS, "decompose.module.filters", "filter", "leaves filters; no 'filter'.*did you mean 'filters'"),
        (FILTERS, "decompose.module.filters", "dense", "leaves filters; 'dense' leaves none; there are filters"),
        (FILTERS, "decompose.module.source", "filters", "a classifier; 'filters' leaves none; there are dense"),
        (FILTERS, "retrain.module.source", "dense", "decomposed classifier; 'dense' leaves none"),
        (PLUGIN, "plugin.module.source", "dens", "phases.plugin: .*no 'dens' is before it; there are dense"),
        (PLUGIN, "compare.module.plugins", "{one: plug}", "a plug-in; no 'plug' is before it.*did you mean 'plugin'"),
        (PLUGIN, "compare.module.plugins", "{one: dense}", "a plug-in; 'dense' leaves none; there are plugin"),
        (PLUGIN, "plugin.module.source", "compare", "no 'compare' is before it"),
    ],
)
def test_a_wrong_phase_ends_before_the_first(tmp_path, capsys, phases, option, value, words):
    config = write_config(tmp_path, phases=phases)
    with pytest.raises(SystemExit) as end:
        main(["pipeline", "--config", str(config), "--run_dir", str(tmp_path / "run"), f"--phases.{option}", value])
    assert end.value.code == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
