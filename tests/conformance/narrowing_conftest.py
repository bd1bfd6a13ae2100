"""Narrow timm's tests to the models this package registers.

``run.py`` copies this file as ``conftest.py`` beside timm's ``test_models.py``. timm's tests ask
``timm.list_models`` for their subjects while they are collected, so that is where the choice is made.
"""

import os
from typing import Any

import pytest
import timm

import mocse_timm  # noqa: F401  (registers the models)

_list_models = timm.list_models
NO_SCRIPT = (
    "AdvMoE's layers learn their paths from Python, which TorchScript cannot compile: export or trace it instead"
)
SUBJECTS = set(os.environ["MOCSE_CONFORMANCE_MODELS"].split())


def _list_subjects(filter: Any = "", module: Any = "", **kwargs: Any) -> list[str]:
    """Answer as timm does, for our models only, and as if each of our modules were on every list of modules."""
    return [name for name in _list_models(filter, **kwargs) if name.split(".")[0] in SUBJECTS]


timm.list_models = _list_subjects
timm.list_pretrained = lambda *args, **kwargs: []  # their tests compare with files on the Hub


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the tests that timm wrote for single models of its own."""

    def is_ours(item: pytest.Item) -> bool:
        parameters = getattr(getattr(item, "callspec", None), "params", {})  # a test without parameters has none
        return str(parameters.get("model_name")).split(".")[0] in SUBJECTS

    items[:] = [item for item in items if is_ours(item)]
    for item in items:
        if "torchscript" in item.name and "advmoe" in item.name:
            item.add_marker(pytest.mark.skip(reason=NO_SCRIPT))
