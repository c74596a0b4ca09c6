"""Objects as boxes with masks: boxes are detected at anchors in one stage, then filled."""

from panscape.representations.masked_boxes.anchors import estimate_anchors as estimate_anchors
from panscape.representations.masked_boxes.categories import match_categories as match_categories
from panscape.representations.masked_boxes.categories import thing_prob as thing_prob
from panscape.representations.masked_boxes.decode import MaskedBoxDecoding as MaskedBoxDecoding
from panscape.representations.masked_boxes.mask_targets import MaskBoxes as MaskBoxes
from panscape.representations.masked_boxes.mask_targets import MaskSampling as MaskSampling
from panscape.representations.masked_boxes.representation import MASKED_BOX_ORACLES as MASKED_BOX_ORACLES
from panscape.representations.masked_boxes.representation import MaskedBoxRepresentation as MaskedBoxRepresentation
from panscape.representations.masked_boxes.types import MaskedBoxOutputs as MaskedBoxOutputs
