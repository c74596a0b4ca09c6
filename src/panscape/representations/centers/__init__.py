"""Objects as centres: a heatmap of centres, and for every pixel the offset to the centre of its object.

Each name is imported on first use: decoding on the CPU needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.lazy_names import lazy_names

if TYPE_CHECKING:
    from panscape.representations.centers.decode_config import CenterDecoding as CenterDecoding
    from panscape.representations.centers.representation import CENTER_ORACLES as CENTER_ORACLES
    from panscape.representations.centers.representation import CenterRepresentation as CenterRepresentation
    from panscape.representations.centers.types import CenterOutputs as CenterOutputs
    from panscape.representations.centers.types import CenterTargets as CenterTargets

_HOME = {
    "CENTER_ORACLES": "representation",
    "CenterDecoding": "decode_config",
    "CenterOutputs": "types",
    "CenterRepresentation": "representation",
    "CenterTargets": "types",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
