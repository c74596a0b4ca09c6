"""Average the weights of models fine-tuned from the same weights ("model soups", Wortsman et al., ICML 2022).

::

    python benchmarks/average_models.py OUT.safetensors aerial 0.3 RUN/model.safetensors 0.7

Running statistics of norms are averaged like weights. Averaging models that were not fine-tuned from the same weights
is meaningless.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from panscape import zoo
from panscape.models import PanopticModel


def average(models: list[PanopticModel], shares: list[float]) -> PanopticModel:
    """Return the first model with the weighted average of all weights."""
    states = [model.state_dict() for model in models]
    mean = {
        name: sum((share * state[name] for share, state in zip(shares, states, strict=True)), torch.zeros_like(first))
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }
    models[0].load_state_dict(mean)
    return models[0]


def main() -> None:
    """Load the models, average them and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("pairs", nargs="+", metavar="MODEL SHARE", help="a model, as for panscape.load, and its share")
    args = parser.parse_args()
    names, shares = args.pairs[::2], [float(share) for share in args.pairs[1::2]]
    if len(names) != len(shares) or not math.isclose(sum(shares), 1):
        parser.error("expected a share after each model, with a sum of 1")
    zoo.save(average([zoo.load(name) for name in names], shares), args.out)


if __name__ == "__main__":
    main()
