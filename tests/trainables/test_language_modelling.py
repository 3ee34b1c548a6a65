"""Language modelling: the authors' items, what the loss counts, perplexity, and the variants."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.samples import write_text
from trainables.config import RunConfig
from trainables.data.text import TextData
from trainables.errors import UserError
from trainables.job import Progress
from trainables.store import Store, read_table
from trainables.tasks.language_modelling import NOT_PREDICTED, LanguageModellingTask

CPU = torch.device("cpu")

SMALL = {
    "task": "language_modelling",
    "data": "wikitext2",
    "model": {
        "name": "transformer",
        "embedding_size": 8,
        "num_heads": 2,
        "num_layers": 2,
        "hidden_size": 8,
    },
    "optimizer": {"name": "adam", "weight_decay": 1e-5, "gradient_clip": 0.25},
    "learning_rate": 1e-3,
    "batch_size": 8,
    "budget": {"epochs": 2},
}

AUTHORS = {
    "task": {"name": "language_modelling", "padding": "predicted"},
    "data": {"name": "wikitext2", "vocabulary": "authors"},
    "model": {**SMALL["model"], "attention": "minibatch", "layer_init": "copied"},  # type: ignore[dict-item]
}
STREAM = {"task": {"name": "language_modelling", "items": "stream", "tokens": 11}}


def config_of(**options: Any) -> RunConfig:
    return RunConfig.parse({**SMALL, **options})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with the sample text: 120 lines, 14 of every 15 as they were written."""
    write_text(tmp_path)
    return tmp_path


def bound(config: RunConfig, root: Path) -> LanguageModellingTask:
    task = config.task.bind(config, root, CPU)
    assert isinstance(task, LanguageModellingTask)
    return task


def loaded(config: RunConfig, root: Path) -> TextData:
    data = config.data.load(root)
    assert isinstance(data, TextData)
    return data


def lines_of(config: RunConfig, root: Path, split: str = "train") -> list[list[int]]:
    text = getattr(loaded(config, root), split)
    return [
        text.tokens[start:stop].tolist()
        for start, stop in zip(text.starts[:-1], text.starts[1:], strict=True)
    ]


def words_of(task: LanguageModellingTask, step: int) -> list[list[int]]:
    """The minibatch's items as lists of words, without what was filled up."""
    words, targets = task.minibatch(step)
    return [
        [int(row[0]), *(int(word) for word in target if word != NOT_PREDICTED)]
        for row, target in zip(words, targets, strict=True)
    ]


# --- items -------------------------------------------------------------------------------------


def test_an_epoch_is_every_line_once_cut_to_33_words_without_those_of_fewer_than_two(
    root: Path,
) -> None:
    config = config_of()
    task = bound(config, root)
    assert task.steps_per_epoch == 112 // 8
    expected = sorted(line[:33] for line in lines_of(config, root) if len(line) >= 2)
    for epoch in range(2):
        steps = range(epoch * task.steps_per_epoch, (epoch + 1) * task.steps_per_epoch)
        assert sorted(item for step in steps for item in words_of(task, step)) == expected
    assert max(len(line) for line in lines_of(config, root)) > 33


def test_the_steps_of_an_epoch_count_lines_that_are_dropped() -> None:
    # 36,718 lines of WikiText-2, about a third of them blank (INVENTORY B0)
    config = config_of(batch_size=32)
    assert config.steps_per_epoch(36_718) == 1_147
    assert config_of(batch_size=256).steps_per_epoch(42_068) == 164
    assert config.steps_per_epoch(1_801_350) == 56_292


def test_every_epoch_has_another_order_and_the_seed_decides_it(root: Path) -> None:
    task, again = bound(config_of(), root), bound(config_of(), root)
    other = bound(config_of(seeds={"data_order": 5}), root)
    size = task.steps_per_epoch
    first, second = ([words_of(task, e * size + i) for i in range(size)] for e in range(2))
    assert first != second
    assert [words_of(again, i) for i in reversed(range(size))] == first[::-1]
    assert [words_of(other, i) for i in range(size)] != first


def test_the_stream_runs_in_columns_and_predicts_every_word_once(root: Path) -> None:
    config = config_of(**STREAM)
    task = bound(config, root)
    words = loaded(config, root).train.tokens.tolist()
    num_items = -(-(len(words) - 1) // 10)
    assert config.task.num_train(config, root) == num_items
    assert task.steps_per_epoch == num_items // 8
    columns: list[list[int]] = [[] for _ in range(8)]
    for step in range(task.steps_per_epoch):
        for column, item in zip(columns, words_of(task, step), strict=True):
            assert not column or column[-1] == item[0]
            column += item[1:] if column else item
    length = 10 * task.steps_per_epoch
    for k, column in enumerate(columns):
        assert column == words[k * length : (k + 1) * length + 1]


def test_a_minibatch_without_a_line_of_two_words_is_a_user_error(tmp_path: Path) -> None:
    write_text(tmp_path)
    task = bound(config_of(batch_size=1), tmp_path)
    with pytest.raises(
        UserError,
        match=r"batch_size: minibatch \d+ of epoch 0 holds no line of two words, all 1 are shorter"
        r"; give a larger batch size$",
    ):
        task.minibatch(0)


# --- the loss ----------------------------------------------------------------------------------


def naive_losses(model: nn.Module, items: list[list[int]]) -> list[float]:
    """Cross-entropy of every predicted word, item by item, in float64."""
    losses = []
    for item in items:
        with torch.no_grad():
            logits = model(torch.tensor([item[:-1]]))[0].double()
        chosen = logits.log_softmax(1).gather(1, torch.tensor(item[1:]).unsqueeze(1))
        losses += [-value for value in chosen.squeeze(1).tolist()]
    return losses


def test_the_loss_is_the_mean_over_words_and_filling_changes_nothing(root: Path) -> None:
    task = bound(config_of(), root)
    model = task.build_model()
    for step in range(3):
        losses = naive_losses(model, words_of(task, step))
        expected = math.fsum(losses) / len(losses)
        assert task.loss(model, step).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", [{}, STREAM], ids=["lines", "stream"])
def test_a_held_out_minibatch_is_the_validation_splits_next_items(
    options: dict[str, Any], root: Path
) -> None:
    """Lines cut to 33 words and those of fewer than two dropped, or the stream's pieces."""
    config = config_of(**options)
    task = bound(config, root)
    model = task.build_model()
    items = [row[:33] for row in lines_of(config, root, "validation")]
    if options:
        words = [word for row in lines_of(config, root, "validation") for word in row]
        items = [words[i : i + 11] for i in range(0, len(words) - 1, 10)]
    assert task.num_held_out(8) == len(items) // 8
    for number in (0, len(items) // 8 - 1):
        usable = [item for item in items[8 * number : 8 * number + 8] if len(item) > 1]
        losses = naive_losses(model, usable)
        expected = math.fsum(losses) / len(losses)
        assert task.held_out_loss(model, number, 8).item() == pytest.approx(expected, rel=1e-5)


def test_held_out_minibatches_of_blank_lines_do_not_count(tmp_path: Path) -> None:
    write_text(tmp_path)
    file = tmp_path / "wikitext-2" / "wiki.valid.tokens"
    file.write_text("a b\n" * 4 + "\n" * 4 + "c d e\n" * 4 + "f g\n")
    task = bound(config_of(), tmp_path)
    model = task.build_model()
    assert [task.num_held_out(size) for size in (1, 2, 4, 8)] == [9, 4, 2, 1]
    losses = [task.held_out_loss(model, number, 4).item() for number in range(2)]
    assert all(map(math.isfinite, losses))
    assert losses[0] != losses[1]


@pytest.mark.parametrize("options", [{}, STREAM], ids=["lines", "stream"])
def test_perplexity_is_over_every_word_that_has_one_before_it(
    options: dict[str, Any], root: Path
) -> None:
    config = config_of(**options)
    task = bound(config, root)
    model = task.build_model().eval()
    rows = lines_of(config, root, "validation")
    width = 11 if options else 33
    if options:
        rows = [[word for row in rows for word in row]]
    items = [row[i : i + width] for row in rows for i in range(0, len(row) - 1, width - 1)]
    losses = naive_losses(model, items)
    assert len(losses) == sum(len(row) - 1 for row in rows)
    values = task.evaluate(model, "validation")
    assert values["loss"] == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]), rel=1e-12)


def test_best_perplexity_is_the_lowest(
    root: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    finish(store, a=config_of(budget={"epochs": 3}, learning_rate=0.02))
    manifest = store.run("a").manifest()
    assert manifest is not None
    epochs = read_table(store.run("a").path / "epochs.parquet")
    found = manifest["metrics"]["best_validation_perplexity"]
    assert found == epochs["validation_perplexity"].min()
    assert epochs["validation_perplexity"].iloc[-1] < epochs["validation_perplexity"].iloc[0]


# --- the authors' way --------------------------------------------------------------------------


def test_the_authors_way_predicts_what_short_lines_are_filled_with(root: Path) -> None:
    task = bound(config_of(**AUTHORS), root)
    words, targets = task.minibatch(0)
    padding = loaded(config_of(**AUTHORS), root).padding
    assert (targets == padding).any()
    assert not (targets == NOT_PREDICTED).any()
    model = task.build_model()
    logits = model(words).flatten(0, 1)
    expected = nn.functional.cross_entropy(logits, targets.flatten())
    assert torch.equal(task.loss(model, 0), expected)


def test_the_authors_way_evaluates_cut_and_filled_lines(root: Path) -> None:
    config = config_of(**AUTHORS)
    task = bound(config, root)
    rows = [row[:33] for row in lines_of(config, root, "validation")]
    groups = [rows[i : i + 8] for i in range(0, len(rows), 8)]
    padding, model = loaded(config, root).padding, task.build_model().eval()
    total, count = 0.0, 0
    for group in groups:
        used = [row for row in group if len(row) >= 2]
        width = max(map(len, used))
        words = torch.tensor([row + [padding] * (width - len(row)) for row in used])
        with torch.no_grad():
            logits = model(words[:, :-1]).double().flatten(0, 1)
        targets = words[:, 1:].flatten()
        total += nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        count += len(targets)
    assert task.evaluate(model, "validation")["loss"] == pytest.approx(total / count, rel=1e-5)


# --- rows that never occur ---------------------------------------------------------------------


def embedding_gradient(task: LanguageModellingTask, model: nn.Module) -> Tensor:
    """Summed absolute gradient of every row of the embedding over an epoch; [words]."""
    total = torch.zeros(model.get_parameter("embedding.weight").shape[0])
    for step in range(task.steps_per_epoch):
        model.zero_grad()
        task.loss(model, step).backward()  # type: ignore[no-untyped-call]
        gradient = model.get_parameter("embedding.weight").grad
        assert gradient is not None
        total += gradient.abs().sum(1)
    return total


@pytest.mark.parametrize(
    "options",
    [{}, STREAM, AUTHORS, {"data": {"name": "wikitext2", "train_examples": 8}, "batch_size": 8}],
    ids=["lines", "stream", "authors", "few lines"],
)
def test_unused_rows_are_those_that_never_receive_a_gradient(
    options: dict[str, Any], root: Path
) -> None:
    task = bound(config_of(**options), root)
    model = task.build_model()
    unused = task.unused_rows(model)
    assert list(unused) == ["embedding.weight"]
    expected = (embedding_gradient(task, model) == 0).nonzero().squeeze(1)
    assert unused["embedding.weight"].tolist() == expected.tolist()


def test_used_gamma_leaves_out_what_weight_decay_does_to_unused_rows(
    root: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    few = {"name": "wikitext2", "train_examples": 16}
    decayed = {"name": "adam", "weight_decay": 1e-2, "gradient_clip": 0.25}
    probes = ["path", "used_rows"]
    finish(store, a=config_of(data=few, optimizer=decayed, probes=probes, budget={"epochs": 8}))
    table = read_table(store.run("a").path / "steps.parquet")
    assert (table["used_distance"] < table["distance"]).all()
    assert (table["used_gamma"].abs() > table["gamma"].abs()).all()
    inner = (table["used_gamma"] * table["used_distance"]).to_numpy()
    assert inner == pytest.approx((table["gamma"] * table["distance"]).to_numpy(), rel=1e-6)


def test_used_gamma_is_gamma_where_nothing_moves_the_unused_rows(
    root: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    plain = {"name": "adam", "gradient_clip": 0.25}
    finish(store, a=config_of(optimizer=plain, probes=["path", "used_rows"]))
    table = read_table(store.run("a").path / "steps.parquet")
    assert table["used_gamma"].to_numpy() == pytest.approx(table["gamma"].to_numpy(), rel=1e-9)


# --- mistakes, and the full size ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "digits"}, "task language_modelling reads text, data digits holds images"),
        (
            {"model": "mlp"},
            "model mlp takes images, task language_modelling reads text; use model transformer$",
        ),
        ({"batch_size": "full"}, "batch_size: full needs a task whose loss is a mean over ex"),
        ({"task": {"name": "language_modelling", "tokens": 1}}, "task.tokens: .*equal to 2, got 1"),
        ({"task": {"name": "language_modelling", "items": "words"}}, "task.items: .*'lines' or"),
    ],
)
def test_what_does_not_fit_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        config_of(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["default", "authors_lm"])
def test_the_full_size_transformer_replays_exactly(
    variant: str, root: Path, store: Store, finish: Callable[..., list[Progress]]
) -> None:
    model = {"name": "transformer", "vocabulary": 33_278}
    options: dict[str, Any] = {"model": model}
    if variant == "authors_lm":
        model |= {"attention": "minibatch", "layer_init": "copied"}
        options |= {"task": AUTHORS["task"], "data": AUTHORS["data"]}
    config = config_of(**options, batch_size=32, learning_rate=1e-4, budget={"steps": 3})
    finish(store, a=config)
    manifest = store.run("a").manifest()
    assert manifest is not None
    assert manifest["replay_exact"]
