"""A classifier of many classes and many features: a page per class, and nothing of single weights."""

from handful.report.run_page import run_pages
from tests.helpers.large_report import large_content


def test_many_classes_with_many_features_have_their_pages(tmp_path):
    """Such as a dense or a decomposed run on photographs."""
    content = large_content(tmp_path, classes=31, features=12, per_class=3, images_per_class=1)
    content.few = False
    pages = run_pages(content)
    assert sum(name.startswith("class-") for name in pages) == 31
