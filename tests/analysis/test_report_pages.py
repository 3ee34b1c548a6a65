"""The report's two pages: links to runs, Markdown, tables as files, words as tags."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load_sweep
from analysis.report import Report, write_report
from analysis.report_page import plain

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
    page = written.html.read_text()
    assert f'<td><a href="{ADDRESS}" target="_blank" rel="noopener">r000</a></td>' in page
    assert "<td>r003</td>" in page
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


def test_the_abstract_is_question_method_answer(written: Report) -> None:
    title, question, method, answer = written.abstract.split("\n\n", 3)
    assert title == "### Planted trend"
    assert question == "*How does gamma depend on the batch size?*"
    assert method == "Synthetic runs with known exponents."
    assert answer.split("**")[1::2] == written.headline.split("**")[1::2]


def test_the_abstract_is_markdown_and_the_headline_is_for_a_terminal(written: Report) -> None:
    assert "5 of 5 replays ended bitwise at w*." in written.headline
    assert "5 of 5 replays ended bitwise at w\\*." in written.abstract
    formula = "d_{t+1}^2 = d_t^2 + 2<U, D>"  # MLflow's page would drop <U, D>
    assert plain(formula) == r"d\_\{t+1\}^2 = d\_t^2 + 2&lt;U, D\>"


def test_claims_on_single_runs_are_a_table_and_those_left_open_are_counted_by_id(
    written: Report,
) -> None:
    singles = [verdict for verdict in written.verdicts if not verdict.compares]
    settled = [verdict for verdict in singles if verdict.word != "inconclusive"]
    assert 0 < len(settled) < len(singles)
    for verdict in settled:
        assert f"{verdict.id} {verdict.claim}: **{verdict.word}**" in written.headline
    left_open = ", ".join(v.id for v in singles if v.word == "inconclusive")
    assert f"; {left_open}: **inconclusive**." in written.headline
    page = written.html.read_text()
    table = page.split("<h2>Claims on the runs by themselves")[1].split("</table>")[0]
    assert table.count("<tr>") == 1 + len(singles)
    assert "<td>C01</td><td>gamma is almost always positive</td>" in table


def test_what_has_nothing_to_show_any_more_is_removed(
    plant: Plant, write: Write, tmp_path: Path
) -> None:
    storage, out = tmp_path / "store", tmp_path / "out"
    write(storage, plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=4))
    before = write_report(load_sweep("planted", storage), out)
    assert (out / "figures" / "gamma.png").is_file()
    (out / "figures" / "mine.png").write_bytes(b"a user's own")
    runs = plant("equal-epochs", 0.5, 0.5, batches=(64, 128), epochs=4)
    for run in runs:
        run.status = "not started"
    write(tmp_path / "empty", runs)
    after = write_report(load_sweep("planted", tmp_path / "empty"), out)
    assert before.figures
    assert not after.figures
    assert [path.name for path in (out / "figures").iterdir()] == ["mine.png"]
    assert {path.name for path in (out / "tables").iterdir()} == {"runs.csv"}


def test_columns_that_say_nothing_are_not_shown(written: Report) -> None:
    page = written.html.read_text()
    assert "<th>id</th><th>claim</th><th>verdict</th>" in page  # all are of the whole sweep
    assert "<th>note</th>" in page


def test_rounding_is_shown_as_zero() -> None:
    from analysis.report_tables import number

    assert number(-5e-16) == "0"
    assert number(1.25e-5) == "1.25e-05"
