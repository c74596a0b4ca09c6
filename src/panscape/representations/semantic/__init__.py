"""Categories alone: one segment for each category of an image, for networks of semantic segmentation."""

from panscape.representations.semantic.representation import SemanticOutputs as SemanticOutputs
from panscape.representations.semantic.representation import SemanticRepresentation as SemanticRepresentation
from panscape.representations.semantic.representation import SemanticTargets as SemanticTargets
