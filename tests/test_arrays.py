"""Tensors as arrays and back: bits and shapes are kept, bfloat16's too."""

import sys

import ml_dtypes
import numpy as np
import pytest
import torch

from kstyle_torch.arrays import from_array, to_array
from tests.oracle import uniform


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.complex64, torch.bool], ids=str)
@pytest.mark.parametrize("shape", [(), (3, 4), (0, 2)], ids=str)
def test_there_and_back(dtype, shape):
    tensor = (uniform(*shape) * 9).to(dtype).mT if len(shape) > 1 else (uniform(*shape) * 9).to(dtype)
    array = to_array(tensor.requires_grad_(tensor.is_floating_point()))
    assert array.shape == tensor.shape
    assert array.dtype == (
        ml_dtypes.bfloat16 if dtype is torch.bfloat16 else to_array(torch.zeros((), dtype=dtype)).dtype
    )
    back = from_array(array)
    assert back.dtype is dtype and torch.equal(back, tensor)


def test_views_are_resolved():
    x = torch.complex(uniform(3), uniform(3, seed=1))
    assert np.array_equal(to_array(x.conj()), to_array(x).conj())
    assert np.array_equal(to_array(x.conj().imag), -to_array(x).imag)


def test_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    array = to_array(uniform(3).bfloat16())
    assert array.dtype == np.float32 and np.array_equal(array, uniform(3).bfloat16().float().numpy())
