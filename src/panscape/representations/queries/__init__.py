"""Objects and stuff as queries: each query predicts a category and a mask (mask classification)."""

from panscape.representations.queries.decode import QueryDecoding as QueryDecoding
from panscape.representations.queries.encode import QueryTargets as QueryTargets
from panscape.representations.queries.match import QueryLossWeights as QueryLossWeights
from panscape.representations.queries.merge import MergedQueries as MergedQueries
from panscape.representations.queries.merge import MergeRule as MergeRule
from panscape.representations.queries.merge import merge_queries as merge_queries
from panscape.representations.queries.oracles import QUERY_ORACLES as QUERY_ORACLES
from panscape.representations.queries.representation import QueryRepresentation as QueryRepresentation
from panscape.representations.queries.types import QueryOutputs as QueryOutputs
