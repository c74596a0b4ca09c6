"""Objects as dense boxes: every location predicts the box of its object."""

from panscape.representations.dense_boxes.decode_config import DenseBoxDecoding as DenseBoxDecoding
from panscape.representations.dense_boxes.representation import DENSE_BOX_ORACLES as DENSE_BOX_ORACLES
from panscape.representations.dense_boxes.representation import DenseBoxRepresentation as DenseBoxRepresentation
from panscape.representations.dense_boxes.types import DenseBoxOutputs as DenseBoxOutputs
from panscape.representations.dense_boxes.types import DenseBoxTargets as DenseBoxTargets
