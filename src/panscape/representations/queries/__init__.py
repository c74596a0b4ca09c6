"""Objects and stuff as queries: each query predicts a category and a mask (mask classification)."""

from panscape.representations.queries.encode import QueryTargets as QueryTargets
from panscape.representations.queries.match import QueryLossWeights as QueryLossWeights
from panscape.representations.queries.representation import QueryRepresentation as QueryRepresentation
from panscape.representations.queries.types import QueryOutputs as QueryOutputs
