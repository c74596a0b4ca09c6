"""A training stops when its evaluations no longer improve, and its model is that of the best one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch.utils.data import default_collate
from training_runs import TINY, WHOLE, Drawn, Net, RegionNet, assert_equal, last_checkpoint, steps_saved

from panscape import zoo
from panscape.training.config import ModelOptions, Optimizer, Recipe
from panscape.training.distributed import Distributed
from panscape.training.early_stopping import EarlyStopping
from panscape.training.run import run
from panscape.training.run_options import RunOptions
from panscape.training.validation_loss import validation_losses
from panscape.zoo.checkpoints import Checkpoints

RECIPE = replace(
    TINY,
    model=Net(fixed_norm=True),  # so that the loss in eval mode soon follows that of the training
    data=Drawn(val=(100,)),
    augmentation=WHOLE.augmentation,
    optimizer=Optimizer("adamw", 0.01),
    ema_decay=0.5,
    batch_size=2,
    steps=40,
    eval_every=2,
    early_stopping=EarlyStopping(3),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(recipe: Recipe, out: Path, **options: Any) -> None:
    given = {"device": "cpu", "workers": 0, "threads": 1, "checkpoint_every": 500, "image_every": 0} | options
    run(recipe, RunOptions(out, **given))


def lines(out: Path, key: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in found if key in line]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stopped") / "out"
    trained(RECIPE, out)
    return out


def test_it_stops_at_the_exact_step_with_the_model_of_the_lowest_loss(stopped: Path) -> None:
    losses = {line["step"]: sum(line["val_losses"].values()) for line in lines(stopped, "val")}
    best = min(losses, key=lambda step: losses[step])
    stop = max(losses)
    assert list(losses) == list(range(2, stop + 1, 2))
    assert stop == best + 2 * 3
    assert best > 2
    assert stop < 40
    assert last_checkpoint(stopped)[0] == stop
    assert steps_saved(stopped) == [best, stop - 4, stop - 2, stop]  # the three newest, and the best
    assert [line["note"] for line in lines(stopped, "note")] == [
        f"stopped early after step {stop} of 40: no improvement of loss since step {best} (patience 3)",
        f"the model of this run is that of step {best}",
    ]
    content = Checkpoints(stopped / "checkpoints").load_step(best)
    assert content is not None
    model = zoo.load(stopped)
    assert_equal(dict(model.state_dict()), {name: content["average"][name] for name in model.state_dict()})
    assert zoo.read_card(stopped)["steps"] == best
    (result,) = lines(stopped, "best")
    assert (result["step"], result["best"]) == (stop, json.loads((stopped / "evaluation.json").read_text()))


@pytest.mark.parametrize("evaluations_left", [0, 1, 5])
def test_a_resumed_run_stops_at_the_same_step_with_the_same_model(
    evaluations_left: int, stopped: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    saved = steps_saved(out)
    if evaluations_left:  # killed after the checkpoint before the last, with or without its evaluation
        (out / "checkpoints" / f"step_{saved[-1]:08d}.ckpt").unlink()
        kept = [text for text in (out / "metrics.jsonl").read_text().splitlines() if "best" not in json.loads(text)]
        (out / "metrics.jsonl").write_text("\n".join(kept[:-evaluations_left]) + "\n")
    (out / "model.safetensors").unlink()
    trained(RECIPE, out, resume=True)
    assert_equal(last_checkpoint(out), last_checkpoint(stopped))
    for name in ("model.safetensors", "evaluation.json"):
        assert (out / name).read_bytes() == (stopped / name).read_bytes(), name


def test_a_stopped_run_goes_on_without_early_stopping(
    stopped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    stop = last_checkpoint(out)[0]
    trained(replace(RECIPE, steps=stop + 1, early_stopping=EarlyStopping(0, ("pq",))), out, resume=True)
    assert "early stopping is off; give --early-stopping.patience to use its metrics" in caplog.text
    assert last_checkpoint(out)[0] == zoo.read_card(out)["steps"] == stop + 1


def test_without_the_checkpoint_of_the_best_evaluation_the_last_model_is_used(
    stopped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    best, *_, stop = steps_saved(out)
    (out / "checkpoints" / f"step_{best:08d}.ckpt").unlink()
    trained(RECIPE, out, resume=True)
    assert zoo.read_card(out)["steps"] == stop
    name = f"step_{best:08d}.ckpt"
    assert f"checkpoint {name} of the best evaluation cannot be read (No such file or directory)" in caplog.text


def test_patience_beyond_the_last_step_still_chooses_the_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(replace(RECIPE, steps=3, early_stopping=EarlyStopping(1, ("head-miou",))), tmp_path)
    assert "early stopping cannot end this training before step 4; it has 3 steps" in caplog.messages
    values = {line["step"]: line["val"]["semantic_head"]["mean_iou"] for line in lines(tmp_path, "val")}
    assert list(values) == [2, 3]  # the last step, too
    assert zoo.read_card(tmp_path)["steps"] == max(values, key=lambda step: values[step])
    assert not lines(tmp_path, "val_losses")  # not asked for


@pytest.mark.parametrize("network", [Net(), RegionNet()], ids=["one stage", "two stages"])
def test_the_validation_loss_is_that_of_the_crops_whatever_the_training(network: ModelOptions) -> None:
    recipe = replace(RECIPE, model=network, data=Drawn(val=(7, 8, 9)), batch_size=3)
    dataset = recipe.data.load(None, "val")
    torch.manual_seed(1)
    model = recipe.model.create(dataset.labels)
    fabric = Fabric(accelerator="cpu", devices=1)

    def losses(recipe: Recipe) -> dict[str, float]:
        return validation_losses(model, dataset, recipe, fabric, Distributed(fabric), on_error="raise", workers=0)

    found = losses(recipe)
    assert all(module.training for module in model.modules())
    torch.manual_seed(2)
    augmented = replace(recipe.augmentation, scale=(0.25, 4.0), blur=1.0, multi_scale=(32,))
    assert losses(replace(recipe, augmentation=augmented)) == found
    if not model.takes_targets:  # whose samples are random
        samples = [dataset[i] for i in range(3)]  # crops are whole images, and losses are means over all pixels
        images = torch.stack([sample.image for sample in samples]).float() / 255
        with torch.no_grad():
            expected = model.eval().loss(model(images), default_collate([model.encode(s.truth) for s in samples]))
        assert found == pytest.approx({name: float(loss) for name, loss in expected.items()}, rel=1e-5)
    assert losses(replace(recipe, grad_accum_steps=3)).keys() == found.keys()
    assert losses(replace(recipe, eval_limit=1, batch_size=1)) != found
