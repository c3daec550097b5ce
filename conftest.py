"""The names that the doctests of the package use without importing them."""

import importlib.util

import numpy as np
import pytest
import torch

NAMESPACES = (
    "activations backend callbacks config constraints distillation export initializers layers losses metrics models ops "
    "optimizers random registry regularizers saving tree utils visualization"
).split()


@pytest.fixture(autouse=True)
def add_public_names(request, doctest_namespace):
    """torch, np, and all that the public modules export."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    doctest_namespace.update(torch=torch, np=np)
    for name in NAMESPACES:
        if importlib.util.find_spec(f"kstyle_torch.{name}") is not None:
            module = importlib.import_module(f"kstyle_torch.{name}")
            public = (
                () if name in ("ops", "backend") else getattr(module, "__all__", ())
            )  # which would hide `sum`, `max` and others
            doctest_namespace.update({each: getattr(module, each) for each in public})
            doctest_namespace[name] = module
    own = request.node.dtest.globs  # a loss and a metric may have the same name
    doctest_namespace.update({name: own[name] for name in own.keys() & doctest_namespace.keys()})
