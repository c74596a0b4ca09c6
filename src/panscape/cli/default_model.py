"""The model of ``panscape predict`` without ``--model``."""

from __future__ import annotations

from typing import NamedTuple

from panscape.cli.printing import agrees

STRONG = "maskformer_r50_coco"
"""The smallest of the published models of everyday photos that is strong and permissive, and needs no extra."""
BUNDLED = "street"


class DefaultModel(NamedTuple):
    """The name of a model, and a line that says why it is used."""

    name: str
    reason: str


def default_model(*, may_ask: bool) -> DefaultModel:
    """Return the published model of everyday photos if it is here, else a bundled one.

    Nothing is fetched unasked: at a terminal, the user is asked whether to fetch the published model, unless downloads
    are forbidden.

    Args:
        may_ask: whether the user may be asked.
    """
    from panscape.zoo.published.cache import WeightsCache
    from panscape.zoo.published.catalogue import catalogue
    from panscape.zoo.published.offline import forbidding_variable

    entry = catalogue()[STRONG]
    size = f"{entry.megabytes:.0f} MB, {entry.publisher.licence}"
    question = (
        f"{STRONG} segments everyday photos into 133 categories ({entry.data} PQ {entry.metrics['PQ']}; {size}); the "
        f"bundled {BUNDLED} is for street scenes.\nFetch {STRONG} once, and use it from now on?"
    )
    may_ask = may_ask and forbidding_variable() is None
    if WeightsCache().find(entry) is not None or (may_ask and agrees(question)):
        return DefaultModel(
            STRONG, f"{STRONG} is for everyday photos; --model {BUNDLED} is for street scenes, and faster"
        )
    return DefaultModel(
        BUNDLED,
        f"the bundled {BUNDLED} is for street scenes; for everyday photos: panscape weights fetch {STRONG} ({size})",
    )
