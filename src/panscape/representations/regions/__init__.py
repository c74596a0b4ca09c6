"""Objects as regions with masks: a first stage proposes boxes, a second one classifies, refines and fills them."""

from panscape.representations.regions.anchors import Anchors as Anchors
from panscape.representations.regions.decode import RegionDecoding as RegionDecoding
from panscape.representations.regions.losses import StageSampling as StageSampling
from panscape.representations.regions.propose import DetectionSelection as DetectionSelection
from panscape.representations.regions.propose import ProposalSelection as ProposalSelection
from panscape.representations.regions.representation import REGION_ORACLES as REGION_ORACLES
from panscape.representations.regions.representation import RegionRepresentation as RegionRepresentation
from panscape.representations.regions.types import RegionOutputs as RegionOutputs
from panscape.representations.regions.types import RegionTargets as RegionTargets
