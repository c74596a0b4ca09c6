"""Objects as centres: a heatmap of centres, and for every pixel the offset to the centre of its object."""

from panscape.representations.centers.decode_config import CenterDecoding as CenterDecoding
from panscape.representations.centers.representation import CENTER_ORACLES as CENTER_ORACLES
from panscape.representations.centers.representation import CenterRepresentation as CenterRepresentation
from panscape.representations.centers.types import CenterOutputs as CenterOutputs
from panscape.representations.centers.types import CenterTargets as CenterTargets
