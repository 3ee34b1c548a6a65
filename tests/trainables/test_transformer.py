"""The Transformer: P1's numbers of weights, initialisation, and what attends to what."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.transformer import Transformer, positions
from trainables.randomness import seeded
from trainables.registry import build

SMALL = {"embedding_size": 8, "num_heads": 2, "num_layers": 3, "hidden_size": 12}


def network(num_words: int = 11, **options: object) -> nn.Module:
    with seeded(3):
        return build(Transformer, {**SMALL, **options}, "model").build((), num_words)


@pytest.mark.parametrize(
    ("num_words", "num_weights"),
    [(33_278, 9_747_454), (10_000, 3_765_008), (267_735, 70_002_903)],
    ids=["wikitext-2", "ptb", "wikitext-103"],
)
def test_it_has_p1s_number_of_weights(num_words: int, num_weights: int) -> None:
    with torch.device("meta"):
        net = Transformer().build((), num_words)
    parameters = list(net.parameters())
    assert sum(p.numel() for p in parameters) == num_weights
    assert len(parameters) == 147
    assert list(net.buffers()) == []


def test_layers_start_independent_and_as_copies_only_if_asked_for() -> None:
    def first_maps(net: nn.Module) -> list[Tensor]:
        return [p for name, p in net.named_parameters() if name.endswith("linear1.weight")]

    independent, copied = first_maps(network()), first_maps(network(layer_init="copied"))
    assert len(independent) == len(copied) == 3
    assert not torch.equal(independent[0], independent[1])
    assert not torch.equal(independent[1], independent[2])
    assert torch.equal(copied[0], copied[1])
    assert torch.equal(copied[1], copied[2])


def test_embedding_and_output_are_uniform_up_to_a_tenth() -> None:
    weights = dict(network(num_words=500).named_parameters())
    for name in ("embedding.weight", "output.weight"):
        values = weights[name].detach().double()
        assert values.abs().max() <= 0.1
        assert values.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert not weights["output.bias"].any()


def test_positions_are_those_of_vaswani_et_al() -> None:
    table = positions(7, 8, torch.device("cpu"))
    for place in range(7):
        for k in range(4):
            angle = place / 10_000 ** (2 * k / 8)
            assert table[place, 2 * k].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[place, 2 * k + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def changed(before: Tensor, after: Tensor) -> set[tuple[int, int]]:
    """The (item, position) whose logits differ."""
    return {(int(i), int(j)) for i, j in (before != after).any(2).nonzero()}


def test_a_word_changes_what_follows_in_its_own_line_and_nothing_else() -> None:
    net = network()
    words = torch.arange(20).view(4, 5) % 11
    other = words.clone()
    other[2, 3] = (other[2, 3] + 1) % 11
    with torch.no_grad():
        assert changed(net(words), net(other)) == {(2, 3), (2, 4)}


def test_the_authors_attention_runs_across_the_minibatch() -> None:
    net = network(attention="minibatch")
    words = torch.arange(30).view(6, 5) % 11
    other = words.clone()
    other[3, 0] = (other[3, 0] + 1) % 11
    with torch.no_grad():
        # token 0 of item 3 reaches items 3, 4 and 5, at position 0 only (INVENTORY E22)
        assert changed(net(words), net(other)) == {(3, 0), (4, 0), (5, 0)}


def test_the_same_word_at_another_place_has_other_logits() -> None:
    net = network()
    with torch.no_grad():
        logits = net(torch.full((1, 4), 5))[0]
    assert not torch.allclose(logits[0], logits[3], atol=1e-4)


def test_evaluation_and_training_agree_without_dropout() -> None:
    net = network()
    words = torch.arange(12).view(3, 4) % 11
    trained = net(words)
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(net(words), trained.detach())


def test_a_vocabulary_above_the_models_is_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"model\.vocabulary: 10000 is below the 33278 words of the data set; give at least "
        r"33278, or leave it out$",
    ):
        Transformer(vocabulary=10_000).build((), 33_278)


def test_a_larger_vocabulary_than_the_datas_gives_more_rows() -> None:
    assert network(11, vocabulary=20)(torch.zeros(1, 2, dtype=torch.int64)).shape == (1, 2, 20)


@pytest.mark.parametrize(("size", "heads"), [(10, 4), (9, 3)])
def test_a_width_that_the_heads_cannot_share_is_refused(size: int, heads: int) -> None:
    with pytest.raises(
        UserError, match=rf"embedding_size: {size} must be even and a multiple of num_heads {heads}"
    ):
        build(Transformer, {"embedding_size": size, "num_heads": heads}, "model")
