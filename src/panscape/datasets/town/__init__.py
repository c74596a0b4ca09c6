"""Synthetic scenes of a small town with exact ground truth, and their renderer."""

from panscape.datasets.town.dataset import SMALLEST_AREA as SMALLEST_AREA
from panscape.datasets.town.dataset import Town as Town
from panscape.datasets.town.dataset import View as View
from panscape.datasets.town.dataset import town as town
from panscape.datasets.town.dataset import town_labels as town_labels
