"""How sure a semantic head is of its categories, on average over an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PIXELS = 10_000  # enough for a mean, and little work for large images


def mean_confidence(semantic: NDArray[np.floating]) -> float:
    """Return the mean over pixels of the largest probability of a category, 0..1.

    About ten thousand pixels, evenly spread, represent larger outputs.

    Args:
        semantic: logits, float [C, H, W].
    """
    step = max(1, int((semantic[0].size / _PIXELS) ** 0.5))
    logits = semantic[:, ::step, ::step].astype(np.float32)
    # The largest logit has the probability exp(0) / sum(exp(logit - largest)).
    return float((1 / np.exp(logits - logits.max(0)).sum(0)).mean())
