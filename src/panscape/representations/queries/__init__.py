"""Objects and stuff as queries: each query predicts a category and a mask (mask classification)."""

from panscape.representations.queries.types import QueryOutputs as QueryOutputs
