"""Pictures and tables reach the phase's folder and the loggers that take them."""

from types import SimpleNamespace

from PIL import Image

from callbacks.records import log_image, log_table, run_folder


class Dashboard:
    def __init__(self):
        self.images, self.tables = [], []

    def log_image(self, **what):
        self.images.append(what)

    def log_table(self, **what):
        self.tables.append(what)


def trainer(folder, rank=0):
    return SimpleNamespace(
        default_root_dir=str(folder), is_global_zero=rank == 0, current_epoch=3, global_step=40,
        loggers=[Dashboard(), SimpleNamespace()],
    )  # fmt: skip


def test_picture(tmp_path):
    t = trainer(tmp_path)
    path = log_image(t, "maps/cam", Image.new("RGB", (4, 4)), caption="a bird")
    assert path == tmp_path / "maps/cam/epoch_003.png"
    assert Image.open(path).size == (4, 4)
    assert t.loggers[0].images == [{"key": "maps/cam", "images": [str(path)], "step": 40, "caption": ["a bird"]}]


def test_a_picture_that_is_written_already_is_handed_on_as_it_is(tmp_path):
    t, path = trainer(tmp_path), tmp_path / "drawn.png"
    Image.new("RGB", (4, 4)).save(path)
    assert log_image(t, "maps", path) == path
    assert t.loggers[0].images == [{"key": "maps", "images": [str(path)], "step": 40, "caption": None}]
    assert list(tmp_path.iterdir()) == [path]


def test_table(tmp_path):
    t = trainer(tmp_path)
    path = log_table(t, "filters", ["class", "filter"], [("wren", 3), ("robin", 5)])
    assert path.read_text().split() == ["class,filter", "wren,3", "robin,5"]
    rows = [["wren", 3], ["robin", 5]]
    assert t.loggers[0].tables == [{"key": "filters", "columns": ["class", "filter"], "data": rows, "step": 40}]


def test_other_ranks_write_nothing(tmp_path):
    t = trainer(tmp_path, rank=1)
    assert log_image(t, "maps", Image.new("RGB", (4, 4))) is None
    assert log_table(t, "filters", ["class"], [("wren",)]) is None
    assert not list(run_folder(t).iterdir())
    assert not t.loggers[0].images
