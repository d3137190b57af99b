"""Tables for the terminal: which way round a table of stages is."""

from pipelines.tables import stage_table

ROW = {"accuracy": 88.1, "n_features": 6, "features_per_class": 3.3, "diversity@5": 0.4}
WIDE = ROW | {f"measure_number_{number}": 0.1 for number in range(6)}


def width(table):
    return max(map(len, table.splitlines()))


def test_a_wide_table_of_few_stages_has_a_row_per_measure():
    table = stage_table({f"stage_{number}": WIDE for number in range(4)})
    assert table.split()[0] == "measure"
    assert width(table) < 130


def test_a_table_of_many_stages_is_not_turned_into_a_wider_one():
    """Twelve rounds of Q-SENN: 203 characters, 262 when turned."""
    table = stage_table({f"finetuned_round_{number}": WIDE for number in range(12)})
    assert table.split()[0] == "stage"
    assert len(table.splitlines()) == 2 + 12
