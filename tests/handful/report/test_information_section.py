"""The report's section of maps in bits, of plug-ins with and without a comparison."""

import json

from PIL import Image

from handful.report.content import Content
from handful.report.run_page import run_pages

STAGES = {
    "dense": {"accuracy": 90.0},
    "plugin_eighth": {"accuracy": 88.0, "general_bits": 0.3716, "sufficient_bits": 0.0233},
    "plugin_sixteenth": {"accuracy": 87.0, "general_bits": 0.8637},
}


def sheet(path, width=2000):
    path.parent.mkdir(parents=True)
    Image.new("RGB", (width, 40), "red").save(path)


def page_of(folder, stages=STAGES):
    phases = ["dense", "plugin_eighth", "plugin_sixteenth", "compare"]
    return run_pages(Content("run", folder, {"stages": stages}, phases=phases))["index.html"]


def test_plug_ins_without_a_comparison_show_their_own_newest_maps_of_test_images(tmp_path):
    sheet(tmp_path / "dense/attribution/cam/epoch_000.png")
    sheet(tmp_path / "plugin_eighth/attribution/general/epoch_000.png")
    for epoch in (1, 12):
        sheet(tmp_path / f"plugin_eighth/attribution_test/general/{epoch}/x.png")
        (tmp_path / f"plugin_eighth/attribution_test/general/{epoch}/x.png").rename(
            tmp_path / f"plugin_eighth/attribution_test/general/epoch_{epoch:03d}.png"
        )
    sheet(tmp_path / "plugin_eighth/attribution_test/sufficient/epoch_012.png")
    sheet(tmp_path / "plugin_sixteenth/attribution/redundant/epoch_003.png")
    page = page_of(tmp_path)
    section = page[page.index('id="information"') :]
    section = section[: section.index("</article>")]
    assert '<a href="#information">' in page
    assert "<td>0.372</td>" in section
    assert "dense" not in section  # it has no bits
    assert section.count("<img") == 3
    assert "test images with their maps of general information in bits, plugin_eighth" in section
    assert "validation images with their maps of redundant information in bits, plugin_sixteenth" in section
    assert 'width="1100"' in section  # drawn wider, and shown no wider than the page
    assert section.index("<h3>plugin_eighth</h3>") < section.index("<h3>plugin_sixteenth</h3>")
    assert "is above zero bits" in section  # what its colours mean


def test_after_a_thousand_epochs_the_newest_maps_are_shown(tmp_path):
    for epoch, width in ((999, 20), (1000, 30)):
        path = tmp_path / f"plugin_eighth/attribution_test/general/epoch_{epoch:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, 40), "red").save(path)
    page = page_of(tmp_path)
    assert 'width="30"' in page[page.index('id="information"') :]


def test_a_comparison_is_shown_instead(tmp_path):
    sheet(tmp_path / "compare/comparison.png")
    sheet(tmp_path / "plugin_eighth/attribution_test/general/epoch_001.png")
    (tmp_path / "compare/comparison.json").write_text(json.dumps({"ours": {"general_bits": 1.5}, "other": {}}))
    page = page_of(tmp_path)
    section = page[page.index('id="information"') :]
    assert section[: section.index("</article>")].count("<img") == 1
    assert "<td>1.500</td><td>–</td>" in section


def test_a_run_without_bits_has_no_such_section(tmp_path):
    sheet(tmp_path / "dense/attribution/cam/epoch_000.png")
    assert 'id="information"' not in page_of(tmp_path, {"dense": {"accuracy": 90.0}})
