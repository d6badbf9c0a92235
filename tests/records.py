"""The scripts that make data/results, as modules."""

import importlib
from types import ModuleType

import pytest

from src.runtime import data_dir


def script(name: str) -> ModuleType:
    """data/<name>.py, which finds its neighbours as if it were run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(data_dir()))
        return importlib.import_module(name)
