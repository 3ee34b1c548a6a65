"""The report's two pages: links to runs, Markdown, tables as files, words as tags."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from analysis import load_sweep
from analysis.report import Report, write_report

Plant = Callable[..., list[Any]]
Write = Callable[..., Any]

ADDRESS = "http://tracker:5000/#/experiments/1/runs/abc"


@pytest.fixture(scope="module")
def written(plant: Plant, write: Write, tmp_path_factory: pytest.TempPathFactory) -> Report:
    storage = tmp_path_factory.mktemp("store")
    runs = plant("equal-epochs", 0.5, 0.5, batches=(64, 128), spread=0.005, epochs=4)
    runs[1].status, runs[1].replay_exact = "diverged", None
    runs[2].axes["note"] = runs[2].config["note"] = "a|b*c"
    write(storage, runs, axes=("batch_size", "seed", "note"))
    out = tmp_path_factory.mktemp("report")
    return write_report(load_sweep("planted", storage), out, {"r000": ADDRESS})


def test_a_run_links_to_its_page_and_others_are_plain(written: Report) -> None:
    assert f'<td><a href="{ADDRESS}">r000</a></td>' in written.html.read_text()
    assert "<td>r003</td>" in written.html.read_text()
    assert f"[r000]({ADDRESS})" in written.markdown.read_text()


def test_markdown_says_what_the_page_says(written: Report) -> None:
    text = written.markdown.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    page = re.findall(r"<h[12]>(.+)</h[12]>", written.html.read_text())
    assert headings == page
    assert headings[:2] == ["Planted trend", "Verdict"]
    for verdict in written.verdicts:
        assert f"**{verdict.word}**" in text
    assert "diverged at step 7" in text
    assert "5 of 5 replays ended bitwise at w\\*." in text
    assert text.endswith("~~~yaml\nname: planted\n\n~~~\n")


def test_every_row_of_a_markdown_table_has_its_columns(written: Report) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", written.markdown.read_text(), re.MULTILINE)
    assert len(blocks) >= 4
    for block in blocks:
        rows = [re.split(r"(?<!\\)\|", line) for line in block.splitlines()]
        assert len({len(row) for row in rows}) == 1, rows[0]
        assert len(rows) > 2
    assert "a\\|b\\*c" in written.markdown.read_text()


def test_markdown_shows_every_figure_file(written: Report) -> None:
    shown = re.findall(r"!\[.*?\]\((.+?)\)", written.markdown.read_text())
    assert shown == [f"figures/{figure.png.name}" for figure in written.figures]
    assert all((written.markdown.parent / path).is_file() for path in shown)


def test_tables_are_files_that_a_browser_shows(written: Report) -> None:
    runs = pd.read_csv(written.html.parent / "tables" / "runs.csv")
    assert runs["run_id"].tolist() == [f"r{number:03d}" for number in range(6)]
    assert runs["mean gamma, equal-epochs"].notna().sum() == 5
    verdicts = pd.read_csv(written.html.parent / "tables" / "verdicts.csv")
    assert verdicts["verdict"].tolist() == [str(v.word) for v in written.verdicts]


def test_the_words_on_claims_are_tags(written: Report) -> None:
    words = {f"verdict_{v.id}": str(v.word) for v in written.verdicts if v.id}
    assert written.tags.keys() == words.keys()
    assert all(word in written.tags[name].split("; ") for name, word in words.items())


def test_the_abstract_is_question_then_answer(written: Report) -> None:
    title, question, answer = written.abstract.split("\n\n", 2)
    assert title == "### Planted trend"
    assert question == "*How does gamma depend on the batch size?*"
    assert answer == written.headline


def test_rounding_is_shown_as_zero() -> None:
    from analysis.report_tables import number

    assert number(-5e-16) == "0"
    assert number(1.25e-5) == "1.25e-05"
