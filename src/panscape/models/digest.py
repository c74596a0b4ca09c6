"""A digest of a network, by which two runs are known to use the same one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from panscape.models.base import PanopticModel
from panscape.serialization import to_plain


def network_digest(model: PanopticModel) -> str:
    """Return a digest of a network's class, options, weights and constants, 16 hexadecimal digits.

    Post-processing options, labels and the card are not part of it. An exported model has that of its file.
    """
    if model.file_digest is not None:
        return model.file_digest[:16]
    spec = model.spec
    options = {} if spec is None else {**spec.options, "representation": model.representation}
    plain = to_plain(options, "options", _part)
    if isinstance(plain.get("representation"), dict):
        plain["representation"].pop("decoding", None)
    name = None if spec is None else spec.name
    digest = hashlib.sha256(json.dumps([type(model).__name__, model.extra_repr(), name, plain]).encode())
    for name, tensor in {**dict(model.named_buffers()), **model.state_dict()}.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _part(part: Any) -> dict[str, str]:
    return {"part": type(part).__name__}
