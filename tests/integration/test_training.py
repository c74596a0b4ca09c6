"""Training reduces the loss, and errors are helpful."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import trees
from PIL import Image
from training_runs import (
    TINY,
    WHOLE,
    Drawn,
    Net,
    RegionNet,
    assert_equal,
    last_checkpoint,
    recipe_file,
    steps_saved,
)

from panscape import zoo
from panscape.cli import main
from panscape.errors import (
    BadSampleError,
    DiskFullError,
    InvalidAnnotationError,
    InvalidArgumentError,
    TrainingDivergedError,
    WorkerDiedError,
)
from panscape.metrics import EvaluationReport
from panscape.models import region_heads
from panscape.recipes.data_options import FolderData
from panscape.representations.regions import RegionTargets
from panscape.training import run as training_run
from panscape.training.config import Augmentation, Optimizer, Recipe, Sampling
from panscape.training.monitor import TrainingMonitor
from panscape.training.run import run
from panscape.training.run_options import RunOptions
from panscape.training.schedule import Schedule
from panscape.zoo import checkpoints

SHORT = replace(TINY, steps=6, eval_every=0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(recipe: Recipe, out: Path, **options: object) -> EvaluationReport:
    given = {"device": "cpu", "workers": 0, "threads": 1, "checkpoint_every": 2, "image_every": 0} | options
    return run(recipe, RunOptions(out, **given))


def notes(out: Path) -> list[str]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["note"] for line in lines if "note" in line]


def test_two_scenes_are_learnt_to_pq_90(tmp_path: Path) -> None:
    recipe = Recipe(
        "by heart",
        Net(width=32, levels=2),
        Drawn(train=(1, 2), val=(1, 2), size=(64, 96)),
        Augmentation(crop=(64, 96), scale=(1.0, 1.0), flip=0.0),
        optimizer=Optimizer("adamw", 4e-3),
        schedule=Schedule("cosine", warmup_steps=20),
        steps=200,
        batch_size=2,
        ema_decay=0.95,
    )
    report = trained(recipe, tmp_path, checkpoint_every=1000, log_every=50, image_every=200)
    assert report.panoptic.all.pq > 0.9
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    totals = {line["step"]: line["total"] for line in lines if "total" in line}
    assert list(totals) == [50, 100, 150, 200]
    assert totals[200] < 0.1 * totals[50]
    assert steps_saved(tmp_path) == [200]
    assert len(list((tmp_path / "images").iterdir())) == 1
    assert zoo.load(tmp_path / "model.safetensors").predict(recipe.data.load(None, "val")[0].image).num_segments


def test_networks_of_two_stages_train_on_crops_that_record_what_they_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RegionTargets] = []
    sample = region_heads.sample_regions
    monkeypatch.setattr(
        region_heads, "sample_regions", lambda p, t, *a, **k: (seen.append(t), sample(p, t, *a, **k))[1]
    )
    recipe = replace(TINY, model=RegionNet(), steps=2, eval_every=0, augmentation=Augmentation(crop=(48, 48)))
    trained(recipe, tmp_path)
    assert len(seen) == 2
    assert all(len(targets.semantic) == 4 for targets in seen)
    assert any(bool(targets.cut_off.any()) for targets in seen)
    losses = [json.loads(line).get("losses") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"objectness", "anchor", "category", "region", "mask", "semantic"} in [set(one) for one in losses if one]


def test_drawing_a_training_crop_does_not_change_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(TINY, model=RegionNet(), steps=2, eval_every=0, augmentation=Augmentation(crop=(48, 48)))
    trained(recipe, tmp_path / "without")
    seen: list[torch.Tensor] = []
    draw = training_run.draw_training_crop
    monkeypatch.setattr(
        training_run, "draw_training_crop", lambda model, images, t: (seen.append(images), draw(model, images, t))[1]
    )
    trained(recipe, tmp_path / "with", image_every=1)
    assert_equal(last_checkpoint(tmp_path / "with"), last_checkpoint(tmp_path / "without"))
    names = {path.name for path in (tmp_path / "with" / "images").iterdir()}
    assert names == {f"step_{step:08d}_{name}.png" for step in (1, 2) for name in ("train", "val")}
    assert [tuple(images.shape) for images in seen] == [(1, 3, 48, 48)] * 2
    assert not torch.equal(seen[0], seen[1])


def test_sampling_by_scale_logs_the_clamp_rate_and_resumes_exactly(tmp_path: Path) -> None:
    recipe = replace(TINY, sampling=Sampling("scales"), steps=4, eval_every=0)
    whole, out = tmp_path / "whole", tmp_path / "out"
    trained(recipe, whole, checkpoint_every=2, workers=1)
    shutil.copytree(whole, out)
    (out / "checkpoints" / "step_00000004.ckpt").unlink()
    trained(recipe, out, checkpoint_every=2, resume=True)
    assert_equal(last_checkpoint(out), last_checkpoint(whole))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rates = [line["clamp_rate"] for line in lines if "clamp_rate" in line]
    assert rates
    assert all(0 <= rate <= 1 for rate in rates)


def test_the_augmentation_of_yolo_panoptic_resumes_exactly_at_sizes_of_their_own(tmp_path: Path) -> None:
    augmentation = replace(
        TINY.augmentation,
        multi_scale=(32, 64, 96),
        multi_scale_every=2,
        scale=(0.25, 4.0),
        scale_distribution="log_uniform",
        rotation="any",
        max_angle=10.0,
        blur=0.5,
    )
    recipe = replace(TINY, augmentation=augmentation, steps=6, eval_every=0, batch_size=2)
    whole, out = tmp_path / "whole", tmp_path / "out"
    trained(recipe, whole, checkpoint_every=3)
    shutil.copytree(whole, out)
    (out / "checkpoints" / "step_00000006.ckpt").unlink()
    trained(recipe, out, checkpoint_every=3, resume=True)  # from within two steps of one size
    assert_equal(last_checkpoint(out), last_checkpoint(whole))


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    recipe = replace(SHORT, model=Net(nan_at=5))
    with pytest.raises(TrainingDivergedError) as caught:
        trained(recipe, tmp_path)
    message = str(caught.value)
    assert message.startswith("the loss is not finite (semantic nan, center nan, offset nan) at step 5, images image")
    assert message.count("image") >= 4
    assert "; the last good checkpoint is that of step 4; check these images" in message
    assert steps_saved(tmp_path) == [2, 4]
    content = last_checkpoint(tmp_path)[1]
    for part in ("model", "average"):
        assert all(bool(t.isfinite().all()) for t in content[part].values())


def test_one_image_of_four_without_labels_stops_no_training(tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    tree = trees.own_masks(folder)
    image, mask = tree.images["000001"], tree.annotations["000001"]
    shutil.copy(image, image.with_stem("unlabelled"))
    with Image.open(mask) as image:
        Image.new("L", image.size, 255).save(mask.with_stem("unlabelled"))
    recipe = replace(SHORT, data=FolderData(), augmentation=WHOLE.augmentation, steps=4, batch_size=1)
    trained(recipe, out, data=folder, log_every=1)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    norms = [line["grad_norm"] for line in lines if "grad_norm" in line]
    assert len(norms) == 4
    assert norms.count(0.0) == 1


def test_likely_mistakes_in_a_folder_are_noted_before_the_first_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "panscape")
    folder, out = tmp_path / "data", tmp_path / "out"
    tree = trees.own_masks(folder)
    names = json.loads((folder / "categories.json").read_text())
    pole = {**names["categories"][0], "name": "pole", "source_id": 99, "color": [1, 2, 3]}
    (folder / "categories.json").write_text(json.dumps({**names, "categories": [*names["categories"], pole]}))
    recipe = replace(SHORT, data=FolderData(), augmentation=WHOLE.augmentation, steps=1, batch_size=2)
    trained(recipe, out, data=folder)
    expected = [f"no pixel in 3 of 3 {split} maps: pole" for split in ("train", "val")]
    assert [message for message in caplog.messages if message in expected] == expected

    for name, path in tree.annotations.items():
        Image.new("L", tree.truths[name].size[::-1], 255).save(path)
    with pytest.raises(InvalidAnnotationError, match="in 3 of 3 training maps, but all pixels are void"):
        trained(recipe, tmp_path / "void", data=folder)
    assert not (tmp_path / "void").exists()


def test_a_run_that_has_diverged_is_a_start_for_another_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "panscape")
    with pytest.raises(TrainingDivergedError, match="start another run from this run directory"):
        trained(replace(SHORT, model=Net(nan_at=5)), tmp_path / "one")
    slow = replace(SHORT, optimizer=replace(SHORT.optimizer, learning_rate=1e-9), ema_decay=0.0)
    trained(slow, tmp_path / "two", init_from=str(tmp_path / "one"))
    assert zoo.read_card(tmp_path / "two")["initial weights"] == f"{tmp_path / 'one'}, licence not stated"
    assert any(line.endswith(", as of step 4") for line in caplog.messages)
    reached, went_on = (last_checkpoint(tmp_path / name)[1] for name in ("one", "two"))
    for name, value in reached["average"].items():
        if "running" not in name and "batches" not in name:
            torch.testing.assert_close(went_on["model"][name], value, rtol=0, atol=1e-7)


@pytest.mark.parametrize("due", [{"eval_every": 4}, {"image_every": 4}])
def test_weights_that_are_not_finite_are_neither_evaluated_nor_drawn(
    due: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = TrainingMonitor.__init__

    def late(monitor: TrainingMonitor, *args: Any) -> None:
        create(monitor, *args)
        monitor._is_late = True  # as on a GPU

    monkeypatch.setattr(TrainingMonitor, "__init__", late)
    recipe = replace(SHORT, model=Net(nan_at=4), eval_every=due.get("eval_every", 0))
    with pytest.raises(TrainingDivergedError, match="at step 4"):
        trained(recipe, tmp_path, checkpoint_every=500, image_every=due.get("image_every", 0))
    assert '"val"' not in (tmp_path / "metrics.jsonl").read_text()
    assert list((tmp_path / "images").iterdir()) == []


def test_a_disk_without_room_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(SHORT, tmp_path / "whole")
    save = torch.save

    def full_at_step_4(content, file):
        save(content, file)
        if content["step"] == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full_at_step_4)
    out = tmp_path / "out"
    with pytest.raises(
        DiskFullError, match=r"step_00000004\.ckpt: it needs .* bytes: No space left on device; earlier"
    ):
        trained(SHORT, out)
    assert steps_saved(out) == [2]
    monkeypatch.undo()
    trained(SHORT, out, resume=True)
    assert_equal(last_checkpoint(out), last_checkpoint(tmp_path / "whole"))


def test_a_loader_process_that_dies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, trap = tmp_path / "out", tmp_path / "trap"
    trap.write_text(str(out / "checkpoints" / "step_00000004.ckpt"))
    recipe = replace(TINY, data=Drawn(trap=str(trap)), eval_every=0)
    with pytest.raises(
        WorkerDiedError, match=r"(is killed by signal: Killed|exited unexpectedly).*fewer --workers and --resume"
    ):
        trained(recipe, out, workers=1)
    assert steps_saved(out)[-1] >= 4
    trap.unlink()
    trained(recipe, out, resume=True)
    assert last_checkpoint(out)[0] == 24


def test_what_a_kill_after_a_checkpoint_has_prevented_is_done_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, steps=6, eval_every=2)

    def done(out: Path) -> tuple[dict[int, float], list[str]]:
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found = {line["step"]: line["val"] for line in lines if "val" in line}
        assert len(found) == sum("val" in line for line in lines)
        return found, sorted(path.name for path in (out / "images").iterdir())

    trained(recipe, tmp_path / "whole", image_every=2)
    out = tmp_path / "out"

    def killed(sheets: list[torch.Tensor]) -> torch.Tensor:
        raise RuntimeError("killed")

    monkeypatch.setattr(training_run, "contact_sheet", killed)  # after saving, before the evaluation
    with pytest.raises(RuntimeError, match="killed"):
        trained(recipe, out, image_every=2)
    monkeypatch.undo()
    assert steps_saved(out) == [2]
    assert done(out) == ({}, [])
    for folder in (out, out / "images"):
        (folder / ".something.0a1b2c3d.png").write_bytes(b"unfinished")
    trained(recipe, out, image_every=2, resume=True)
    assert done(out) == done(tmp_path / "whole")
    assert sorted(done(out)[0]) == [2, 4, 6]
    assert not list(out.rglob(".*"))


def test_fewer_steps_end_a_run_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "panscape")
    whole, out = tmp_path / "whole", tmp_path / "out"
    trained(replace(TINY, steps=6), whole)
    with pytest.raises(TrainingDivergedError):
        trained(replace(TINY, model=Net(nan_at=4), steps=6), out)
    record = (out / "run.json").read_text().replace('"nan_at": 4', '"nan_at": 0')
    (out / "run.json").write_text(record)
    for steps, reached in ((4, 4), (3, 4), (6, 6)):
        trained(replace(TINY, steps=steps), out, resume=True)
        assert last_checkpoint(out)[0] == reached
        assert zoo.read_card(out)["steps"] == reached
        assert json.loads((out / "run.json").read_text())["recipe"]["steps"] == 6
    assert_equal(last_checkpoint(out), last_checkpoint(whole))  # with the learning rates of six steps
    assert [line for line in caplog.messages if "early" in line] == [
        "resuming after step 2 of 6, to end early after step 4",
        "this run ends early: 4 of 6 steps; evaluating and saving its model",
    ]
    with pytest.raises(InvalidArgumentError, match="contains a different run: steps: 6 -> 7"):
        trained(replace(TINY, steps=7), out, resume=True)


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    recipe = replace(SHORT, data=Drawn(bad=(2,), bad_val=(0,)), augmentation=WHOLE.augmentation)
    with pytest.raises(BadSampleError) as caught:
        trained(recipe, tmp_path / "stop")
    assert str(caught.value) == (
        "/data/2.png: expected a whole image; repair or remove it, or skip invalid images with --on-error skip"
    )
    out = tmp_path / "skip"
    trained(recipe, out, on_error="skip", image_every=6)
    first, val, train_end, val_end = notes(out)
    assert first == "skipped /data/2.png: /data/2.png: expected a whole image"
    assert val == "skipped in the evaluation /data/0.png: /data/0.png: expected a whole image"
    # 24 samples of 6 images are four epochs, each of which meets it once.
    assert train_end == ("4 samples skipped and replaced, from 1 of 6 training images: /data/2.png (4 times)")
    assert val_end == "skipped in the evaluation 1 of 3 images: /data/0.png"


def test_a_run_that_did_not_get_far_is_started_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(TrainingDivergedError, match="there is no checkpoint yet"):
        trained(replace(SHORT, model=Net(nan_at=2)), out, log_every=1)
    trained(SHORT, out)
    assert last_checkpoint(out)[0] == 6
    with pytest.raises(InvalidArgumentError, match="contains a run of tiny at step 6 of 6; add --resume"):
        trained(SHORT, out)
    with pytest.raises(InvalidArgumentError, match="contains a different run: batch_size: 4 -> 2"):
        trained(replace(SHORT, batch_size=2), out, resume=True)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("TINY", ["--device", "gpu"], 'expected device "auto", "cpu" or "cuda", got \'gpu\''),
        ("TINY", ["--precision", "fp16"], "fp16 needs a CUDA device; use --precision bf16 or fp32 on the CPU"),
        (
            "replace(TINY, model=Net(representation=replace(EVEN, category_weights=(1.0, 2.0))))",
            [],
            "expected 4 category_weights, one for each category of shapes, got 2",
        ),
        (
            "replace(TINY, model=Net(representation=replace(EVEN, loss_stride=3)))",
            [],
            "expected a loss_stride that divides the output stride 4, got 3",
        ),
        ("replace(TINY, batch_size=3, grad_accum_steps=2)", [], "that 2 parts can share evenly, got 3; use 2 or 4"),
        (
            "replace(TINY, batch_size=2, grad_accum_steps=2)",
            ["--augmentation.crop", "32", "32"],
            "got a single one in pyramid.levels.0.",
        ),
        ("replace(TINY, data=Drawn(train=()))", [], "expected at least one image to train on, got an empty dataset"),
        ("replace(TINY, data=Drawn(val=()))", [], "expected at least one val image to evaluate on, got none"),
        (
            "replace(TINY, batch_size=1)",
            ["--augmentation.crop", "100000000", "200000000"],
            "training with --batch-size 1 and --augmentation.crop 100000000 200000000 does not fit into the memory of "
            "cpu (cannot allocate 240000000000000000 bytes); decrease the crop or",
        ),
        ("TINY", ["--stepz", "3"], "unknown option --stepz; did you mean --steps?"),
        ("TINY", ["--steps", "many"], "many"),
    ],
)
def test_nothing_is_written_for_a_run_that_cannot_be(
    recipe: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe_file(tmp_path / "recipe.py", recipe)
    device = [] if "--device" in options else ["--device", "cpu"]
    assert main(["train", str(file), "--out", str(tmp_path / "out"), *device, *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err + captured.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["grad_accum_steps", "precision"])
def test_parts_and_precision(option: str, tmp_path: Path) -> None:
    """Gradient accumulation equals the whole batch if samples are independent; bf16 ends near fp32."""
    recipe = replace(WHOLE, model=Net(fixed_norm=True), eval_every=0)
    trained(recipe, tmp_path / "one")
    if option == "grad_accum_steps":
        trained(replace(recipe, grad_accum_steps=2), tmp_path / "other")
    else:
        trained(recipe, tmp_path / "other", precision="bf16")
    one, other = (last_checkpoint(tmp_path / name)[1]["model"] for name in ("one", "other"))
    difference = max(float((one[k].double() - other[k].double()).abs().max()) for k in one)
    # Adam divides a gradient by its own size, so where it is nearly nothing, rounding decides on a step of its rate.
    assert 0 < difference < {"grad_accum_steps": 1e-3, "precision": 2e-2}[option]
