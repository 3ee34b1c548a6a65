"""The command line: one line for every mistake, before anything starts, and what commands print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from sweeps.catalogue import describe, full_name, load_spec, preset_names
from sweeps.cli import main
from sweeps.plan import Plan, make_plan
from sweeps.plan_store import write_plan
from tests.trainables.samples import write_text
from trainables.store import Store, write_json

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"  # mlflow 3.17 on SQLAlchemy 2.1
)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Optpath = Callable[..., Result]


@pytest.fixture
def optpath(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Optpath:
    """Runs a command in this process, in an empty folder, with storage ./results."""
    for name in ("MLFLOW_TRACKING_URI", "OPTPATH_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPTPATH_STORAGE", str(tmp_path / "results"))
    monkeypatch.setenv("OPTPATH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["optpath", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Result(int(end.value.code or 0), captured.out, captured.err)

    return run


def assert_refused(result: Result, message: str) -> None:
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert re.search(message, result.err), result.err


# Bad input


BAD_INPUT = [
    (["quikstart"], "unknown preset 'quikstart'; did you mean quickstart?"),
    (["missing.yaml"], "missing.yaml: no such file"),
    (["quickstart", "--scale", "smok"], "unknown scale 'smok'; did you mean smoke"),
    (["quickstart", "--variant", "x"], "unknown variant 'x'; this sweep has no variants"),
    (["quickstart", "batchsize=16"], "unknown key 'batchsize'; did you mean batch_size"),
    (["quickstart", "batch_size=many"], "command line: batch_size: .*integer"),
    (["quickstart", "batch_size=[]"], "command line: batch_size: an empty axis has no runs"),
    (["quickstart", "batch_size=[16"], "command line: batch_size.*not valid YAML"),
    (["quickstart", "batch_size=2000"], "2000 is larger than the 1500 training examples"),
    (
        ["quickstart", "batch_size=full", "chunk=1501"],
        "command line: chunk: 1501 is larger than the 1500 training examples of digits; give at",
    ),
    (
        ["quickstart", "batch_size=full", "chunk=some"],
        "command line: chunk: .*'some'; or write auto",
    ),
    (["quickstart", "budget.epochs=0"], "budget.epochs: .*greater than or equal to 1"),
    (["quickstart", "data=imagnet"], "unknown data 'imagnet'; "),
    (["cifar10-batch-size"], "data cifar10 not found: looked for .*OPTPATH_DOWNLOAD=1"),
    (["quickstart", "--tracking-uri", "htp://x"], "tracking URI 'htp://x': unknown scheme 'htp'"),
    (["quickstart", "--tracking-uri", "http://:x"], "tracking URI 'http://:x': malformed"),
    (["quickstart", "--gpus-per-run", "2"], "--gpus-per-run: a run trains on one GPU at most"),
    (["quickstart", "--gpus-per-run", "some"], "Invalid value for '--gpus-per-run'"),
    (["quickstart", "--cpus-per-run", "9999"], "--cpus-per-run: 9999 asked, .* cores are here"),
    (["quickstart", "--address", "ray://host:1"], "--address ray://host:1: give HOST:PORT"),
    (["quickstart", "--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray cluster answers"),
    (["quickstart", "--fast"], "No such option: --fast.*see: optpath run --help"),
    ([], "Missing argument 'SWEEP'.*see: optpath run --help"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT)
def test_a_mistake_is_one_line_before_anything_starts(
    optpath: Optpath, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert_refused(optpath("run", *arguments), f"(?i){message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: {batch_size: 16", r"mine.yaml:\d+: not valid YAML"),
        ("base: {batchsize: 16}", "mine.yaml: base: unknown key 'batchsize'; .*batch_size"),
        ("grids: {batch_size: [16]}", "mine.yaml: grids: unknown key 'grids'; did you mean grid"),
        ("base: {batch_size: many}", "mine.yaml: base: batch_size: .*integer"),
        ("grid: {batch_size: []}", "grid.batch_size: an empty axis has no runs"),
    ],
)
def test_a_mistake_in_a_file_says_where(
    optpath: Optpath, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert_refused(optpath("run", "mine.yaml"), f"(?i){message}")
    assert not (tmp_path / "results").exists()


def test_no_gpu_here_is_said(optpath: Optpath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused = optpath("run", "quickstart", "--gpus-per-run", "0.5")
    assert_refused(refused, "--gpus-per-run: no GPU is here; leave it out to train on the CPU")


def test_a_corrupt_image_is_named_and_nothing_is_planned(optpath: Optpath, tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / "data/images/train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    broken = tmp_path / "data/images/train/b/7.png"
    broken.write_bytes(broken.read_bytes()[:40])
    sweep = {"base": {"data": {"name": "image_folder", "size": 8}, "batch_size": 4}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(sweep))
    assert_refused(optpath("run", "mine.yaml"), f"{broken}: corrupt image")
    assert not (tmp_path / "results/sweeps").exists()


def test_a_network_that_the_data_do_not_fit_is_refused_before_anything_starts(
    optpath: Optpath, tmp_path: Path
) -> None:
    write_text(tmp_path / "data")
    model = {"name": "transformer", "vocabulary": 10, "num_layers": 1}
    base = {"task": "language_modelling", "data": "wikitext2", "model": model, "batch_size": 8}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"base": base}))
    refused = optpath("run", "mine.yaml")
    assert_refused(refused, r"model\.vocabulary: 10 is below the 80 words .*at least 80, or leave")
    assert not (tmp_path / "results/sweeps").exists()


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_storage_that_cannot_be_written_is_said(
    optpath: Optpath, tmp_path: Path, below: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    refused = optpath("run", "quickstart", "--storage", f"taken{below}")
    assert_refused(refused, f"storage {tmp_path}/taken{below} cannot be written .*--storage")


def test_a_name_that_is_taken_by_another_base_is_refused(optpath: Optpath, tmp_path: Path) -> None:
    write_plan(Store(tmp_path / "results"), make_plan(load_spec("quickstart"), tmp_path / "data"))
    refused = optpath("run", "quickstart", "model.hidden=[64]")
    assert_refused(refused, r"another base \(model.hidden is .*name=quickstart-2")


def test_an_unknown_command_is_one_line(optpath: Optpath) -> None:
    assert_refused(optpath("frobnicate"), "No such command 'frobnicate'")


@pytest.mark.parametrize("command", ["status", "analyze", "verify", "sync"])
def test_a_sweep_that_is_not_stored_is_one_line(optpath: Optpath, command: str) -> None:
    assert_refused(optpath(command, "quickstart"), "optpath run quickstart")


def test_a_process_of_its_own_ends_with_the_same_code(fresh_command_line: Any) -> None:
    result = fresh_command_line("run", "quikstart")
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch("optpath: unknown preset 'quikstart'; .*\n", result.stderr)


# Being stopped


def test_being_stopped_says_how_to_go_on(optpath: Optpath, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()  # the handler raises before this returns

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sweeps.catalogue.load_spec", stopped)
    result = optpath("run", "my sweep.yaml")
    assert result.code == 130
    assert result.err == "stopped; what is done is kept. To go on: optpath run 'my sweep.yaml'\n"
    assert signal.getsignal(signal.SIGTERM) is before


# What commands print


def test_help_waits_for_no_heavy_import(tmp_path: Path) -> None:
    script = (
        "import atexit, sys; sys.argv = ['optpath', '--help'];"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'pydantic'};"
        "atexit.register(lambda: print('heavy:', sorted(heavy & set(sys.modules))));"
        "from sweeps.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "heavy: []"
    commands = "list show plan run status analyze export verify sync ui doctor"
    assert all(re.search(rf"^  {name} ", result.stdout, re.M) for name in commands.split())


def test_no_command_prints_the_help(optpath: Optpath) -> None:
    assert "Usage: optpath" in optpath().out


def test_the_help_says_what_every_command_does_in_whole_words(optpath: Optpath) -> None:
    lines = optpath("--help").lines
    described = lines[lines.index("Commands:") + 1 :]
    assert len(described) >= 14
    assert not [line for line in described if line.endswith("...")]


def test_version(optpath: Optpath) -> None:
    try:
        installed = version("optpath")
    except PackageNotFoundError:
        assert_refused(optpath("--version"), "pip install -e .")
    else:
        assert optpath("--version").out == f"optpath {installed}\n"


def test_list_has_one_whole_line_for_every_preset(optpath: Optpath) -> None:
    lines = optpath("list").lines[1:]
    names = [line.split()[0] for line in lines]
    assert sorted(names) == preset_names()
    for line, name in zip(lines, names, strict=True):
        assert describe(name).title in line
        assert describe(name).figure in line


def test_list_stands_in_the_order_of_the_papers_figures(optpath: Optpath) -> None:
    names = [line.split()[0] for line in optpath("list").lines[1:]]
    papers = [describe(name).figure[:2] for name in names]
    assert papers == sorted(papers, key=lambda paper: {"P1": 0, "P2": 1}.get(paper, 2))
    first = names.index("gd-cnn")
    assert names[first : first + 4] == ["gd-cnn", "gd-vgg16", "gd-resnet18", "gd-resnet34"]
    assert names.index("gd-sign-shift") < names.index("gawu-vs-wu") < names.index("gd-small-lr")


def test_list_has_one_line_for_every_preset_on_a_narrow_terminal(
    optpath: Optpath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in optpath("list").lines]
    assert sorted(line.split()[0] for line in plain[1:]) == preset_names()
    assert max(map(len, plain)) <= 60


@pytest.mark.parametrize("scale", ["full", "smoke"])
@pytest.mark.parametrize("preset", preset_names())
def test_show_prints_a_file_that_means_the_same(
    optpath: Optpath, tmp_path: Path, preset: str, scale: str
) -> None:
    shown = optpath("show", preset, "--scale", scale)
    assert yaml.safe_load(shown.out)["name"] == full_name(preset, scale)
    (tmp_path / "shown.yaml").write_text(shown.out)
    assert optpath("show", "shown.yaml").out == shown.out


def test_plan_prints_every_run_what_is_shared_and_what_is_left(optpath: Optpath) -> None:
    result = optpath("plan", "quickstart", "batch_size=64,256", "seeds=0")
    assert result.code == 0
    heading, *rows, totals = result.lines
    assert heading.split()[:4] == ["run", "ablation", "batch_size", "seed"]
    assert len(rows) == 4
    assert all("2 runs" in row and "26,122" in row and row.endswith("open") for row in rows)
    assert totals.startswith("4 runs on 2 trajectories, 0 done; at most 4,000 steps are left")
    # 40 epochs of 23 and of 5 steps, and twice 1000 steps, in two passes
    assert "(6,240 if nothing were shared)" in totals


def test_a_plan_of_hundreds_of_runs_is_printed_whole(optpath: Optpath) -> None:
    seeds = ",".join(map(str, range(150)))
    lines = optpath("plan", "quickstart", "batch_size=64,256", f"seeds={seeds}").lines
    assert len(lines) == 1 + 600 + 1
    assert len({line.split()[0] for line in lines[1:-1]}) == 600


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("mine", ["mine"]),
        ("quickstart-smoke", ["quickstart-smoke"]),
        ("quickstart-smoke", ["quickstart", "--scale", "smoke"]),
        ("cifar10-seed-smoke+train-50k", ["cifar10-seed", "--scale=smoke", "--variant=train-50k"]),
        ("called-so", ["file.yaml"]),
    ],
)
def test_a_stored_sweep_is_found_by_its_name_its_preset_or_its_file(
    optpath: Optpath, plant_sweep: Any, tmp_path: Path, stored: str, asked: list[str]
) -> None:
    (tmp_path / "file.yaml").write_text("name: called-so")
    _, entries = plant_sweep(stored, root=tmp_path / "results")
    lines = optpath("status", *asked).lines
    assert [line.split()[0] for line in lines[1:]] == [entry["run_id"] for entry in entries]
    assert all("done" in line for line in lines[1:])


def test_status_prints_an_error_as_it_is(
    optpath: Optpath, plant_sweep: Any, tmp_path: Path
) -> None:
    store, entries = plant_sweep(root=tmp_path / "results")
    store.run(entries[0]["run_id"]).manifest_path.unlink()
    message = "ValueError: expected [red] of shape [batch, 3] :cross_mark:"
    path = store.trajectory(entries[0]["trajectory_id"]).path / "error.json"
    write_json(path, {"message": message + "\nmore", "traceback": "", "time": 0.0})
    line = optpath("status", "planted").lines[1]
    assert line.endswith(message)
    assert " failed " in line


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    """The quickstart as it is stored when none of its runs has begun."""
    plan = make_plan(load_spec("quickstart"), tmp_path / "data")
    write_plan(Store(tmp_path / "results"), plan)
    return plan


def test_export_writes_the_table_it_says(optpath: Optpath, planned: Plan, tmp_path: Path) -> None:
    result = optpath("export", "quickstart", "--table", "runs", "-o", "runs.csv")
    assert (result.code, result.out) == (0, "runs of quickstart: runs.csv\n")
    exported = pd.read_csv(tmp_path / "runs.csv", dtype={"run_id": str})
    assert list(exported["run_id"]) == [run.run_id for run in planned.runs]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "rows", "-o", "x.csv"], "no table 'rows'; there are: steps, epochs, runs"),
        (["-o", "x.txt"], "x.txt: write a name that ends in .parquet or .csv"),
        (["-o", "taken/x.csv"], "taken/x.csv: cannot be written"),
        ([], "Missing option '--output'"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    optpath: Optpath, planned: Plan, tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert_refused(optpath("export", planned.name, *options), message)


def test_doctor_says_what_is_missing_and_makes_nothing(optpath: Optpath, tmp_path: Path) -> None:
    result = optpath("doctor")
    assert result.code == 0, result.out
    found = {line.split()[1]: line for line in result.lines[1:] if line.startswith("ok")}
    assert {"python", "ray", "mlflow", "torch", "devices", "storage", "tracking"} <= found.keys()
    assert re.search("ok +data digits +1500 training", result.out)
    assert re.search("-- +data cifar10 +not here .*OPTPATH_DOWNLOAD=1", result.out)
    assert list(tmp_path.iterdir()) == []


def test_doctor_finds_an_absent_server_and_a_storage_that_cannot_be_written(
    optpath: Optpath, tmp_path: Path
) -> None:
    (tmp_path / "results").write_text("a file")
    result = optpath("doctor", "--tracking-uri", "http://127.0.0.1:1")
    assert result.code == 1
    assert re.search("!! +tracking +MLflow at http://127.0.0.1:1 .* start the server", result.out)
    assert re.search("!! +storage +storage .* cannot be written .*--storage DIR", result.out)
