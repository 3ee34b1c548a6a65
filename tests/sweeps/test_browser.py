"""What a person sees: MLflow's UI and the report in a real headless browser, on a real sweep.

The screenshots lie in the test's folder, or in the one that OPTPATH_SCREENSHOTS names.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from sweeps.ui import server_command, server_environment, stop
from tests.sweeps.browser import CHROMIUM, PATIENCE_SECONDS, Browser

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine's PATH"),
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
    ),
]

SWEEP = ("run", "quickstart", "batch_size=64,256", "seeds=0,1")

TRAINING = "workflowType=machine_learning"
"""Without it MLflow 3 shows what belongs to language models."""

FLAT = f"orderByKey={quote('metrics.`path/gamma_mean`')}&orderByAsc=false"
"""Sorted by a metric, runs are not folded under the run of their sweep."""


@dataclass(frozen=True)
class Shown:
    """A sweep on a server, its report's file, and a browser."""

    browser: Browser
    uri: str
    experiment: str
    parent: Run
    children: dict[str, Run]
    """By name."""
    report: Path
    shots: Path

    def open(self, page: str) -> None:
        """Go to a page of the experiment."""
        self.browser.open(f"{self.uri}/#/experiments/{self.experiment}/{page}")

    def open_run(self, run: Run, part: str = "") -> None:
        """Go to a part of a run's page."""
        self.open(f"runs/{run.info.run_id}{part}?{TRAINING}")

    def keep(self, name: str) -> None:
        """Keep a screenshot."""
        self.browser.screenshot(self.shots / f"{name}.png")


@pytest.fixture(scope="module")
def shown(command_line: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder, port = tmp_path_factory.mktemp("browser"), free_port()
    uri = f"http://127.0.0.1:{port}"
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            server_command(f"sqlite:///{folder}/mlflow.db", port),
            env=os.environ | server_environment(),
            start_new_session=True,
            stdout=log,
            stderr=log,
        )
    try:
        until_it_answers(f"{uri}/health")
        done = command_line(*SWEEP, "--tracking-uri", uri)
        assert done.returncode == 0, done.stdout + done.stderr
        shots = Path(os.environ.get("OPTPATH_SCREENSHOTS", folder))
        report = command_line.storage / "sweeps" / "quickstart" / "report.html"
        with Browser(folder) as browser:
            yield Shown(browser, uri, *sweep_on(uri), report, shots)
    finally:
        stop(server)


def test_the_runs_table_filtered_by_a_tag(shown: Shown) -> None:
    wanted = quote("tags.batch_size = '64'")
    shown.open(f"runs?{TRAINING}&{FLAT}&searchFilter={wanted}")
    inside = [name for name in shown.children if name.startswith("b64 ")]
    page = shown.browser.until("4 matching runs", *inside)
    assert len(inside) == 4
    assert len(shown.children) == 8
    for name in set(shown.children) - set(inside):
        assert name not in page
    assert page.count("digits (") == 4  # the data set, logged as an input
    shown.keep("runs-by-tag")


def test_runs_can_be_grouped_by_what_a_user_asks_for(shown: Shown) -> None:
    shown.open(f"runs?{TRAINING}&{FLAT}")
    shown.browser.until("9 matching runs", "Group by")
    shown.browser.click(button("Group by"))
    tags = ("batch_size", "optimizer", "seed", "budget", "regime", "replay_exact", "verdict_C12")
    shown.browser.until("Tags", *tags)


def test_the_gamma_chart_of_a_run(shown: Shown) -> None:
    name, run = next(iter(shown.children.items()))
    shown.open_run(run, "/model-metrics")
    shown.browser.until(name, "Add chart")
    shown.browser.type(field("metric charts"), "path/gamma_mean")
    page = shown.browser.until("path\n(1)", f"{name} (path/gamma_mean)")
    assert "reference" not in page  # the other sections are filtered out
    drawn = "[...document.querySelectorAll('.js-line')].map(l => l.getAttribute('d')).join('')"
    wait_for_true(shown.browser, f"({drawn}).length > 0")
    corners = re.findall("[MLC]", shown.browser.ask(drawn))
    assert len(corners) >= 40, "a curve over the epochs"
    shown.keep("gamma-chart")


def test_metrics_have_groups_and_a_run_its_tags(shown: Shown) -> None:
    run = next(iter(shown.children.values()))
    shown.open_run(run)
    page = shown.browser.until("Parameters", "Tags", "replay_exact", "regime")
    for group in ("path/", "null/", "reference/", "update/", "final/"):
        assert group in page
    assert "optimizer.momentum" in page
    assert "model.hidden" in page


def test_the_description_is_an_abstract_and_verdicts_are_tags(shown: Shown) -> None:
    shown.open_run(shown.parent)
    tags = shown.parent.data.tags
    page = shown.browser.until("Description", "Does gamma grow", "verdict_C12")
    assert "gamma increases with the batch size: " + tags["verdict_C12"] in page
    assert "2<U, D>" in page, "formulas are not read as HTML"
    assert "\\" not in page
    assert "8 of 8 replays ended bitwise at w*." in page


def test_the_report_opened_as_an_artifact(shown: Shown) -> None:
    shown.open_run(shown.parent, "/artifacts/report.html")
    listed = ("report.html", "report.md", "figures", "tables", "summary.json", "spec.yaml")
    page = shown.browser.until(*listed, "Verdict", "C12 gamma increases with the batch size")
    assert "8 of 8 planned runs count" in page
    shown.keep("report-artifact")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("report.md", "C12 gamma increases with the batch size"),
        ("tables/runs.csv", "mean gamma, equal-epochs"),
        ("summary.json", '"verdicts"'),
        ("spec.yaml", "name: quickstart"),
    ],
)
def test_what_the_ui_previews(shown: Shown, path: str, content: str) -> None:
    shown.open_run(shown.parent, f"/artifacts/{path}")
    shown.browser.until(content)


def test_a_figure_is_previewed(shown: Shown) -> None:
    shown.open_run(shown.parent, "/artifacts/figures/gamma.png")
    shown.browser.until("figures/gamma.png")
    wait_for_true(shown.browser, "[...document.images].some(image => image.naturalWidth > 500)")


def test_a_second_report_removes_what_an_earlier_one_left(
    shown: Shown, command_line: Any, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    client, run_id = MlflowClient(shown.uri), shown.parent.info.run_id
    (tmp_path / "layers.png").write_bytes(b"drawn by an earlier report")
    client.log_artifact(run_id, str(tmp_path / "layers.png"), "figures")
    client.set_tag(run_id, "verdict_C99", "refuted")
    before = {file.path for file in client.list_artifacts(run_id, "figures")}
    done = command_line("analyze", "quickstart", "--tracking-uri", shown.uri)
    assert done.returncode == 0, done.stdout + done.stderr
    after = {file.path for file in client.list_artifacts(run_id, "figures")}
    assert before - after == {"figures/layers.png"}
    assert client.get_run(run_id).data.tags.keys() == shown.parent.data.tags.keys()


# The report by itself


def test_a_click_on_a_head_sorts_the_table_and_another_turns_it(shown: Shown) -> None:
    shown.browser.open(shown.report.as_uri())
    shown.browser.until("Replay exactness")
    head = "[...document.querySelectorAll('th')].find(head => head.textContent === 'num steps')"
    column = f"[...({head}).closest('table').tBodies[0].rows].map(row => row.innerText)"
    before = shown.browser.ask(column)
    steps = f"[...({head}).closest('table').tBodies[0].rows].map(r => r.cells[({head}).cellIndex])"
    numbers = f"{steps}.map(cell => Number(cell.textContent))"
    shown.browser.click(head)
    rising = shown.browser.ask(numbers)
    assert rising == sorted(rising)
    assert len(set(rising)) > 2
    assert sorted(shown.browser.ask(column)) == sorted(before), "rows stay whole"
    shown.browser.click(head)
    assert shown.browser.ask(numbers) == rising[::-1]
    shown.keep("report-sorted")


def test_a_click_on_a_figure_enlarges_it_and_keys_zoom(shown: Shown) -> None:
    browser = shown.browser
    browser.open(shown.report.as_uri())
    browser.until("Figures")
    stage = "document.querySelector('.stage')"
    width = f"{stage}.querySelector('img').getBoundingClientRect().width"
    small = browser.ask("document.querySelector('figure img').getBoundingClientRect().width")
    assert browser.ask(f"{stage}.hidden")
    browser.click("document.querySelector('figure img')")
    assert not browser.ask(f"{stage}.hidden")
    fitted = browser.ask(width)
    assert fitted > small
    shown.keep("report-zoomed")
    browser.press("+")
    assert browser.ask(width) > 1.2 * fitted
    browser.press("-")
    assert browser.ask(width) == pytest.approx(fitted)
    browser.press("Escape")
    assert browser.ask(f"{stage}.hidden")


def test_the_reports_links_lead_to_the_pages_of_their_runs(shown: Shown) -> None:
    browser = shown.browser
    browser.open(shown.report.as_uri())
    browser.until("Replay exactness")
    found = browser.ask("[...document.querySelectorAll('td a')].map(a => [a.textContent, a.href])")
    links = {str(run_id): str(address) for run_id, address in found}
    runs = {run.data.tags["optpath.run_id"]: name for name, run in shown.children.items()}
    assert links.keys() == runs.keys()
    run_id, name = next(iter(runs.items()))
    browser.open(links[run_id])
    browser.until(name, "replay_exact", run_id)


def sweep_on(uri: str) -> tuple[str, Run, dict[str, Run]]:
    """The experiment, the sweep's run and its runs by name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("optpath")
    assert experiment is not None
    number = experiment.experiment_id
    (parent,) = client.search_runs([number], "tags.`optpath.kind` = 'sweep'")
    children = client.search_runs([number], "tags.`optpath.kind` = 'run'")
    return number, parent, {run.info.run_name: run for run in children}


def button(words: str) -> str:
    """JavaScript: the button that says so."""
    return f"[...document.querySelectorAll('button')].find(b => b.innerText.includes('{words}'))"


def field(hint: str) -> str:
    """JavaScript: the input field with that hint in it."""
    return f"document.querySelector('input[placeholder*=\"{hint}\"]')"


def wait_for_true(browser: Browser, condition: str) -> None:
    """Return once a JavaScript condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not browser.ask(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)


def until_it_answers(url: str, patience_seconds: float = 180.0) -> None:
    """Return once a server answers."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
