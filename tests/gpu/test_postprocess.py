"""Maps from plain tensors on the device are those on the CPU."""

from __future__ import annotations

import pytest
import torch
from plain_outputs import KINDS, SIX

from panscape.errors import InvalidArgumentError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_the_device_equals_the_cpu(name: str, dtype: torch.dtype) -> None:
    call, make = KINDS[name]
    parts = [part.to(dtype) if part.is_floating_point() else part for part in make()]
    expected, result = call(parts, labels=SIX), call([part.cuda() for part in parts], labels=SIX)
    assert result.ids.is_cuda
    assert result.to("cpu").category.equal(expected.category)
    assert (result.ids.cpu() != expected.ids).float().mean() < 1e-3  # scores and probabilities differ by rounding
    with pytest.raises(InvalidArgumentError, match="on one device, got cpu, cuda:0"):
        call([parts[0], *(part.cuda() for part in parts[1:])], labels=SIX)
