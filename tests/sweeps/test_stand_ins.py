"""Where other data stand in for the paper's, the plan and every name on MLflow say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.catalogue import describe, load_spec, preset_names
from sweeps.plan import make_plan
from sweeps.plan_store import plan_values
from tests.sweeps.test_presets import published_size
from trainables.tracking_content import beside, opening

IMAGENET = "CIFAR-10's JPEG files, through the ImageNet pipeline, for ImageNet-1k"
VAIHINGEN = "tiles of scikit-learn's two photographs for Vaihingen"
SVHN = "MNIST in SVHN's file format for SVHN"
STAND_INS = {
    "imagenet-batch-size": IMAGENET,
    "imagenet-mobilenet": IMAGENET,
    "imagenet-model": IMAGENET,
    "imagenet-resnet50": IMAGENET,
    "vaihingen-budget": VAIHINGEN,
    "vaihingen-model": VAIHINGEN,
    "wikitext2-batch-size": "WikiText-2's test split for its training split",
    "wikitext2-transformer": "WikiText-2's test split for its training split",
    "wikitext103-transformer": "WikiText-2's test split for WikiText-103",
    "ptb-transformer": "the Penn Treebank's test split for its training split",
    "gd-conv-mnist-svhn": SVHN,
    "gd-resnet-mnist-svhn": SVHN,
    "gd-sign-shift": SVHN,
}


def planned(name: str, scale: str, variant: str | None = None) -> dict[str, Any]:
    spec = load_spec(name, scale=scale, variant=variant)
    return plan_values(make_plan(spec, Path("unused"), num_train=published_size))


def data_of(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """Data sets of the runs, by name and by the split that is trained on."""
    data = [run["config"].get("data", {}) for run in plan["runs"]]
    return {(d.get("name", "digits"), d.get("training_split", "train")) for d in data}


@pytest.mark.parametrize("name", preset_names())
def test_a_scale_on_other_data_says_what_stands_in_for_what(name: str) -> None:
    full, smoke = planned(name, "full"), planned(name, "smoke")
    assert "stand_in" not in full
    assert smoke.get("stand_in") == STAND_INS.get(name)
    assert (data_of(smoke) <= data_of(full)) == (name not in STAND_INS)
    for run in smoke["runs"]:
        assert run.get("stand_in") == STAND_INS.get(name)
    for variant in describe(name).variants:
        assert planned(name, "smoke", variant).get("stand_in") == STAND_INS.get(name)


def test_names_and_tags_on_mlflow_say_it() -> None:
    plan = planned("wikitext103-transformer", "smoke")
    told = opening(plan["runs"][0], plan["name"])
    text = STAND_INS["wikitext103-transformer"]
    assert told.name == f"b32 adam seed0 2ep ({text})"
    assert told.tags["stand_in"] == text
    assert beside(plan["name"], plan) == f"wikitext103-transformer-smoke ({text})"
    assert beside("quickstart", planned("quickstart", "smoke")) == "quickstart"
