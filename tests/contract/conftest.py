"""The model that tests of the contract of all models are about."""

import pytest
from tiny_models import MODELS, created

from panscape import PanopticModel


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> PanopticModel:
    return created(request.param)
