"""Two processes train a network of two stages as one does, also where one of them has no object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from maps import SHAPES, a_map, generated_map
from processes import end_together
from torch import distributed
from training_runs import REGIONS

from panscape import PanopticMap, create_model
from panscape.nn.sync_batch_norm import convert_sync_batchnorm
from panscape.representations.regions import RegionTargets, StageSampling

SIZE = (64, 64)
# All boxes are sampled, so that no sample depends on chance.
EVERYTHING = replace(
    REGIONS, first_stage=StageSampling(10_000, 1.0), second_stage=StageSampling(256, 1.0, 0.5, 0.5, 1.0)
)
OBJECTS = [generated_map(seed, SIZE, void=False) for seed in range(3)]
STUFF = a_map("SG", {"S": 0, "G": 1}).resize(*SIZE)
TINY = a_map("SSS\nSAA\nSSS", {"S": 0, "A": 2}).pad(*SIZE)
CASES: dict[str, list[PanopticMap]] = {
    "objects in both": [OBJECTS[0], OBJECTS[1], OBJECTS[2], STUFF],
    "objects in the first": [OBJECTS[0], OBJECTS[1], STUFF, PanopticMap.empty(SIZE)],
    "one object of two pixels": [STUFF, STUFF, STUFF, TINY],
    "no object": [STUFF, STUFF, PanopticMap.empty(SIZE), STUFF],
}


def steps(rank: int | None) -> dict[str, Any]:
    """Return the gradients of each case's batch, and the state of the network at the end."""
    torch.manual_seed(0)
    model = create_model("seamless", SHAPES, backbone="residual_xs", width=8, representation=EVERYTHING).double()
    if rank is not None:
        convert_sync_batchnorm(model)
    share = slice(None) if rank is None else slice(2 * rank, 2 * rank + 2)
    images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0)).double()[share]
    seen: dict[str, Any] = {}
    for name, truths in CASES.items():
        targets = RegionTargets(*(torch.stack(part) for part in zip(*map(model.encode, truths[share]), strict=True)))
        losses = model.train().loss(model(images, targets), targets)
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        seen[name] = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
        seen[name] |= {f"loss {key}": loss.detach() for key, loss in losses.items()}
    return seen | {"state": model.state_dict()}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(steps(rank), f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    end_together(folder, process, 2, folder)
    return [*(torch.load(folder / f"{rank}.pt") for rank in range(2)), steps(None)]


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_one_process(seen: list[dict[str, Any]], name: str) -> None:
    first, second, alone = (one[name] for one in seen)
    assert first.keys() == second.keys() == alone.keys()
    for key, expected in alone.items():
        torch.testing.assert_close((first[key] + second[key]) / 2, expected, rtol=1e-5, atol=1e-7, msg=key)


def test_the_statistics_of_both_are_those_of_one_process(seen: list[dict[str, Any]]) -> None:
    first, second, alone = (one["state"] for one in seen)
    for key, expected in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], expected, rtol=1e-10, atol=1e-12, msg=key)
