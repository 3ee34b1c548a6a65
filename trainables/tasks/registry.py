"""The registry of tasks: one line per task."""

from __future__ import annotations

from trainables.registry import registry_of
from trainables.tasks.classification import Classification
from trainables.tasks.contract import TaskConfig
from trainables.tasks.language_modelling import LanguageModelling
from trainables.tasks.segmentation import Segmentation
from trainables.tasks.synthetic import Synthetic

TASKS: dict[str, type[TaskConfig]] = registry_of(
    Classification, Segmentation, LanguageModelling, *(Synthetic,)
)
