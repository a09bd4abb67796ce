"""Names of runs, which may be of any signs, in pictures and pages."""

from __future__ import annotations

import pytest

from mxnet_resnet.plot import curves, figures, logreader
from tests.helpers import REPOSITORY

STRANGE = ["$\\frac{$", "a_b^c$", "_hidden", "<script>alert(1)", "a\udcffb", "%s {0}", "é€"]


@pytest.fixture
def runs(tmp_path) -> list:
    found = []
    for name in STRANGE:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.log").write_bytes((REPOSITORY / "log/digits.log").read_bytes())
        found += logreader.read_all(folder / "train.log")
    assert [run.name for run in found] == STRANGE
    return found


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_every_name_is_drawn_as_it_is(runs, tmp_path, ending):
    view = curves.View(curves.choose_metrics(runs, None))
    figures.draw(runs, view, tmp_path / f"a.{ending}")
    assert (tmp_path / f"a.{ending}").stat().st_size > 1000
    shown = [text.get_text() for text in figures.figure(runs, view).legends[0].get_texts()]
    expected = [name.replace("_hidden", " _hidden").replace("\udcff", "\\udcff") for name in STRANGE]
    assert shown[: len(STRANGE)] == expected


def test_names_are_no_code_in_a_page(runs, tmp_path):
    figures.draw(runs, curves.View(curves.choose_metrics(runs, None)), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and "script\\u003ealert(1)" in text


def test_a_table_has_every_name(runs):
    table = curves.as_csv(runs, curves.View(curves.choose_metrics(runs, None)))
    assert all(name in table for name in STRANGE)
