"""Saved models, their upload to the hub, partial loading, and published checkpoints.

Each name is imported on first use: reading an exported model needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.lazy_names import lazy_names

if TYPE_CHECKING:
    from panscape.zoo.description import describe_model as describe_model
    from panscape.zoo.publish import model_card as model_card
    from panscape.zoo.publish import push_to_hub as push_to_hub
    from panscape.zoo.publish import save_pretrained as save_pretrained
    from panscape.zoo.published.cache import WeightsCache as WeightsCache
    from panscape.zoo.published.catalogue import CatalogueEntry as CatalogueEntry
    from panscape.zoo.published.catalogue import list_published as list_published
    from panscape.zoo.published.fetch import accept_licence as accept_licence
    from panscape.zoo.published.fetch import fetch_weights as fetch_weights
    from panscape.zoo.published.fetch import verify_weights as verify_weights
    from panscape.zoo.save_load import WEIGHTS_IN_FOLDER as WEIGHTS_IN_FOLDER
    from panscape.zoo.save_load import WeightsInfo as WeightsInfo
    from panscape.zoo.save_load import list_weights as list_weights
    from panscape.zoo.save_load import load as load
    from panscape.zoo.save_load import load_backbone as load_backbone
    from panscape.zoo.save_load import load_partial as load_partial
    from panscape.zoo.save_load import read_card as read_card
    from panscape.zoo.save_load import save as save
    from panscape.zoo.transfer import LoadReport as LoadReport
    from panscape.zoo.transfer import load_matching as load_matching
    from panscape.zoo.transfer import load_strict as load_strict
    from panscape.zoo.transfer import unique_state_dict as unique_state_dict

_HOME = {
    "CatalogueEntry": "published.catalogue",
    "LoadReport": "transfer",
    "WEIGHTS_IN_FOLDER": "save_load",
    "WeightsCache": "published.cache",
    "WeightsInfo": "save_load",
    "accept_licence": "published.fetch",
    "describe_model": "description",
    "fetch_weights": "published.fetch",
    "list_published": "published.catalogue",
    "list_weights": "save_load",
    "load": "save_load",
    "load_backbone": "save_load",
    "load_matching": "transfer",
    "load_partial": "save_load",
    "load_strict": "transfer",
    "model_card": "publish",
    "push_to_hub": "publish",
    "read_card": "save_load",
    "save": "save_load",
    "save_pretrained": "publish",
    "unique_state_dict": "transfer",
    "verify_weights": "published.fetch",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
