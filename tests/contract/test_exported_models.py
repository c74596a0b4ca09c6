"""Contract of all models: they are exported, and their graphs agree with them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CLASSES, MODELS, STEPS, created, images
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from panscape import zoo
from panscape.export import export_model
from panscape.models import PanopticModel

# All operators of the others occur in these graphs, as a test checks; converting one to ONNX takes seconds.
# Attention in windows is the operator of other attention, with other shapes.
CONVERTED = (*(key for key in CLASSES if key != "upernet"), "maskformer, swin")


class Steps(TorchDispatchMode):
    """Records each operator with its predecessor: the order in which the parts of a network run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.last = ""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.add(f"{self.last} -> {operator}")
        self.last = str(operator)
        return operator(*args, **(kwargs or {}))


def steps_of(module: nn.Module, *inputs: Any) -> set[str]:
    """Return the modules of a network that are defined in this package, and the steps of a forward pass."""
    with torch.no_grad(), Steps() as steps:
        module(*inputs)
    return steps.found | {str(type(m)) for m in module.modules() if type(m).__module__.startswith("panscape.")}


def part_of(model: PanopticModel, name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return a part of a model, or all of it, and its inputs in a forward pass."""
    part, inputs = model.get_submodule(name), []
    handle = part.register_forward_pre_hook(lambda _, given: inputs.append(given))
    with torch.no_grad():
        model(images(1, (100, 157)))  # with padding, which some networks tell from the image
    handle.remove()
    return part, inputs[0]


@functools.cache
def exported_steps() -> set[str]:
    exported = dict.fromkeys(CONVERTED, "") | STEPS
    found = (part_of(created(key), part) for key, part in exported.items())
    return set().union(*(steps_of(part, *inputs) for part, inputs in found))


@pytest.mark.parametrize(
    "model", [key for key in MODELS if key not in CONVERTED and STEPS.get(key) != ""], indirect=True
)
def test_private_types_consist_of_exported_ones(model: PanopticModel) -> None:
    assert steps_of(model, images(1, (100, 157))) - exported_steps() == set(), "add it to STEPS"


def test_classes_have_the_operators_of_converted_ones() -> None:
    def operators(keys: Iterable[str]) -> set[str]:
        steps = set().union(*(steps_of(created(key), images(1, (100, 157))) for key in keys))
        return {step.partition(" -> ")[2] for step in steps}

    assert operators(CLASSES) - operators(CONVERTED) == set(), "add its class to CONVERTED"


@pytest.mark.parametrize(("model", "part"), STEPS.items(), indirect=["model"])
def test_forward_exports_and_the_graph_agrees(model: PanopticModel, part: str) -> None:
    module, inputs = part_of(model, part)
    graph = torch.export.export(module, inputs).module()
    with torch.inference_mode():
        expected, found = (pytree.tree_leaves(one(*inputs)) for one in (module, graph))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model", CONVERTED, indirect=True)
def test_onnx_runtime_agrees(model: PanopticModel, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    result = export_model(model, tmp_path / "model.onnx", size=(100, 157), images=[images(1, (100, 157))[0]])
    assert result.parity.equal_pixels == 1
    exported: Any = zoo.load(result.path)
    assert isinstance(exported, type(model))
    image, geometry = images(1, (100, 157)), [model.geometry((100, 157))]
    # Untrained detectors score boxes alike up to rounding, which decides which of them have masks.
    chosen = ("mask_boxes", "mask_category", "masks") if "detector" in exported.output_names else ()
    with torch.inference_mode():
        found, expected = exported(image), model(image)
        for name in exported.output_names:
            if name not in chosen:
                torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-4, rtol=1e-4)
        ours, theirs = (one.postprocess(found, geometry, scored=True)[0] for one in (exported, model))
        assert ours.equals(theirs)
        truth = model.decode(expected, [(100, 157)])[0]
        ours, theirs = (one.decode_with_truth(found, truth, model.oracles) for one in (exported, model))
        assert ours.equals(theirs)
        assert torch.equal(*(one.decode_semantic(found, geometry)[0] for one in (exported, model)))
        panels, expected_panels = (one.visualize(found, (100, 157)) for one in (exported, model))
    assert all(torch.equal(panel, expected_panels[name]) for name, panel in panels.items())
