"""Runs into folders with results of earlier runs: what is kept, replaced and described."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from color_model import ColorModel, painted
from maps import SHAPES, generated_map
from PIL import Image
from processes import Process

from panscape import Category, LabelSpace
from panscape.errors import InvalidArgumentError
from panscape.images import save_png
from panscape.inference.output_folder import OutputFolder
from panscape.inference.pipeline import PredictionRun
from panscape.inference.predictor import Predictor
from panscape.inference.results import FileResult
from panscape.inference.sources import find_sources


class Outcomes(list):
    """The outcomes; ``then`` is called after each."""

    def __init__(self, then=lambda: None):
        super().__init__()
        self.then = then

    def on_result(self, outcome):
        self.append(outcome)
        self.then()

    def on_frame(self, source, index, num_frames):
        self.then()


def interrupt():
    raise KeyboardInterrupt


def predict(photos, out, *, model=None, overwrite=False, style=None, then=lambda: None, **options):
    """Return the outcomes and the number of images that the network has seen."""
    model, outcomes = model or ColorModel(), Outcomes(then)
    with OutputFolder(out, model.labels, style=style) as outputs:
        run = PredictionRun(Predictor(model, device="cpu"), outputs, overwrite=overwrite, **options)
        run.predict_files(find_sources([photos]), outcomes)
    return outcomes, max(len(model.seen) - 1, 0)


def contents(out):
    """Return all files but the record, which has times."""
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".jsonl"}


def described(out):
    """Return the names of the maps in the JSON, each of which must match its PNG."""
    content = json.loads((out / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        ids = np.asarray(Image.open(out / "panoptic" / annotation["file_name"])).astype(int) @ [1, 256, 65536]
        found = dict(zip(*np.unique(ids[ids > 0], return_counts=True), strict=True))
        assert {s["id"]: s["area"] for s in annotation["segments_info"]} == found
    assert [i["id"] for i in content["images"]] == [a["image_id"] for a in content["annotations"]]
    return [i["file_name"] for i in content["images"]]


def test_an_interrupted_run_is_continued(photos, tmp_path):
    predict(photos, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(photos, out, then=interrupt, writers=1)
    names = described(out)
    assert names == ["0.png", "1.png", "2.png"][: len(names)]
    outcomes, num_predicted = predict(photos, out)
    assert num_predicted == 3 - len(names) <= 2
    assert [o.is_earlier for o in outcomes] == [True] * len(names) + [False] * num_predicted
    assert contents(out) == contents(tmp_path / "whole")
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]


def test_results_of_an_earlier_run_are_those_that_it_reported(photos, tmp_path, monkeypatch):
    first, _ = predict(photos, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    second, num_predicted = predict(Path("photos"), Path("out"))
    assert num_predicted == 0
    for before, after in zip(first, second, strict=True):
        assert (after.source, after.overlay) == (f"photos/{before.name}.png", f"out/{before.name}.jpg")
        kept = {"source", "overlay", "map", "is_earlier"}
        was, now = ({k: v for k, v in o.to_dict().items() if k not in kept} for o in (before, after))
        assert now == was
        assert after.segments == before.segments


@pytest.mark.parametrize("length", [0, 1, 30, -1, -40, None])
def test_a_record_that_a_kill_has_cut_off_or_that_is_missing(length, photos, tmp_path):
    out = tmp_path / "out"
    predict(photos, out)
    before = contents(out)
    log = out / "predictions.jsonl"
    if length is None:
        log.unlink()
    else:
        log.write_bytes(log.read_bytes()[:length])
    (out / "panoptic.json").unlink()
    _, num_predicted = predict(photos, out)
    assert num_predicted == ({-1: 0, -40: 1}.get(length, 3))
    assert contents(out) == before
    assert predict(photos, out)[1] == 0


def test_lines_of_the_record_from_elsewhere_are_ignored(photos, tmp_path):
    out = tmp_path / "out"
    predict(photos, out)
    log = out / "predictions.jsonl"
    whole = [json.loads(line) for line in log.read_text().splitlines()]
    odd = [None, "x", [5], {"a": 1}]
    for line, key, value in itertools.product((0, 1), (*whole[0], *whole[1]), odd):
        changed = [dict(each) for each in whole]
        if key in changed[line] and type(changed[line][key]) is not type(value):
            changed[line][key] = value
            log.write_text("".join(json.dumps(each) + "\n" for each in changed))
            with suppress(InvalidArgumentError), OutputFolder(out, SHAPES) as outputs:  # if the label space has changed
                outputs.begin(find_sources([photos]), {})
            with OutputFolder(out, SHAPES) as outputs:
                assert outputs.begin(find_sources([photos]), {}, overwrite=True) == {}
                outputs.replace("0")
            assert described(out) in ([], ["2.png"], ["1.png", "2.png"])


def test_what_has_changed_is_predicted_again(photos, tmp_path):
    out = tmp_path / "out"
    predict(photos, out)
    os.utime(photos / "0.png", (1, 1))
    (out / "panoptic/1.png").unlink()
    whole = (out / "panoptic/2.png").read_bytes()
    (out / "panoptic/2.png").write_bytes(whole[:-20])
    outcomes, _ = predict(photos, out)
    assert [o.is_earlier for o in outcomes] == [False, False, False]
    assert (out / "panoptic/2.png").read_bytes() == whole
    (photos / "1.png").touch()
    outcomes, _ = predict(photos, out)
    assert [o.is_earlier for o in outcomes] == [True, False, True]
    assert predict(photos, out, overwrite=True)[1] == 3
    assert described(out) == ["0.png", "1.png", "2.png"]


def test_other_options_replace_results_and_say_so(photos, tmp_path, caplog):
    out, caplog.handler.level = tmp_path / "out", logging.INFO
    caplog.set_level(logging.INFO)
    predict(photos, out, style={"names": "none"})
    assert caplog.text == ""
    assert predict(photos, out, style={"names": "segment"}, panels=True)[1] == 3
    assert f"3 results in {out} are of other options (names, panels); predicting again" in caplog.text
    assert predict(photos, out, style={"names": "segment"}, panels=True)[1] == 0


def test_earlier_maps_stay_described_until_they_are_replaced(photos, tmp_path):
    out = tmp_path / "out"
    predict(photos, out)
    for image in range(3):  # other maps under the same names
        save_png(photos / f"{image}.png", painted(generated_map(image + 7, (64, 96 + image))))
    with pytest.raises(KeyboardInterrupt):
        predict(photos, out, then=interrupt, style={"opacity": 1.0}, writers=1)
    assert described(out) == ["0.png", "1.png", "2.png"]
    seen = []
    save_png(photos / "-new.png", painted(generated_map(3)))  # sorted before the others
    predict(photos, out, then=lambda: seen.append(described(out)), writers=1)
    assert len(seen[0]) in (0, 1, 3)  # what a kill would leave: no map that was replaced
    assert {*seen[1], *seen[2], *seen[3]} <= {"-new.png"}
    assert described(out) == ["-new.png", "0.png", "1.png", "2.png"]


def test_maps_of_several_runs_are_described_together(photos, tmp_path, caplog):
    other = tmp_path / "others"
    other.mkdir()
    save_png(other / "x.png", painted(generated_map(5)))
    predict(photos, tmp_path / "out")
    predict(other, tmp_path / "out")
    assert described(tmp_path / "out") == ["others/x.png", "photos/0.png", "photos/1.png", "photos/2.png"]
    shutil.copy(other / "x.png", other / "0.png")
    assert predict(other, tmp_path / "out")[1] == 1
    assert described(tmp_path / "out") == ["others/0.png", "others/x.png", "photos/1.png", "photos/2.png"]
    shutil.copy(photos / "0.png", photos / "0.gif")  # 0 is 0_gif and 0_png now
    predict(photos, tmp_path / "out")
    names = ["others/0.png", "others/x.png", "photos/0.gif", "photos/0.png", "photos/1.png", "photos/2.png"]
    assert described(tmp_path / "out") == names
    assert f"replacing the results of 1 other files of the same names in {tmp_path / 'out'}" in caplog.text
    assert f"such as those of {photos / '0.png'}" in caplog.text


def test_maps_of_other_categories_are_not_dropped_silently(photos, tmp_path, caplog):
    out, labels = tmp_path / "out", LabelSpace("other", (Category("red", False, 1, (255, 0, 0)),))
    predict(photos, out)
    (photos / "2.png").unlink()
    with pytest.raises(InvalidArgumentError, match="maps of 1 other sources, such as 2, with other categories"):
        predict(photos, out, model=ColorModel(labels))
    assert described(out) == ["0.png", "1.png", "2.png"]
    assert caplog.messages == []
    predict(photos, out, model=ColorModel(labels), overwrite=True)
    assert caplog.messages == [
        f"{out / 'panoptic.json'} describes maps of 1 other sources, such as 2, with other categories than this "
        "model's; --overwrite removes them from it, and keeps their files"
    ]
    assert described(out) == ["0.png", "1.png"]
    assert (out / "panoptic/2.png").is_file()


def test_a_source_is_described_once_and_removed_maps_are_not(photos, tmp_path):
    out, night = tmp_path / "out", photos / "night"
    predict(photos, out)
    night.mkdir()
    shutil.copy(photos / "0.png", night)
    predict(photos, out)  # 0 is photos_0 now, as there are two
    assert described(out) == ["0.png", "1.png", "2.png", "night/0.png"]
    for name in ("1", "night_0"):
        (out / f"panoptic/{name}.png").unlink()
    predict(photos / "2.png", out, overwrite=True)
    assert described(out) == ["0.png", "2.png"]


@pytest.mark.parametrize("name", ["panoptic", "panoptic.json", "predictions.jsonl"])
def test_a_name_taken_by_another_kind_is_refused_before_predicting(name, tmp_path):
    (tmp_path / name).touch() if name == "panoptic" else (tmp_path / name).mkdir()
    with pytest.raises(InvalidArgumentError, match=r"names is taken by another kind in .*; give another --out"):
        OutputFolder(tmp_path, SHAPES)


def test_a_description_from_elsewhere_is_not_replaced_silently(photos, tmp_path):
    (tmp_path / "panoptic.json").write_text("{}")
    with pytest.raises(InvalidArgumentError, match=r"panoptic\.json was not written by panscape predict"):
        predict(photos, tmp_path)
    assert (tmp_path / "panoptic.json").read_text() == "{}"
    leftovers = [tmp_path / ".ride.34d54151.mp4", tmp_path / "panoptic/.0.34d54151.png"]  # of a kill
    leftovers[1].parent.mkdir()
    for path in leftovers:
        path.touch()
    predict(photos, tmp_path, overwrite=True)
    assert described(tmp_path) == ["0.png", "1.png", "2.png"]
    assert not any(path.exists() for path in leftovers)


def test_a_folder_that_looks_like_an_image_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"expected a folder .*, got .*a\.JPG, the name of an image"):
        OutputFolder(tmp_path / "a.JPG", SHAPES)
    (tmp_path / "old.png").mkdir()
    OutputFolder(tmp_path / "old.png", SHAPES)


def test_a_video_is_kept_and_an_interrupted_one_describes_its_frames(tmp_path):
    pytest.importorskip("av")
    from fractions import Fraction

    from panscape.inference.video_writer import VideoWriter

    shots, out = tmp_path / "shots", tmp_path / "out"
    shots.mkdir()
    with VideoWriter(shots / "ride.mp4", Fraction(10)) as writer:
        for i in range(4):
            writer.write(painted(generated_map(i, (64, 96), void=False)))
    with pytest.raises(KeyboardInterrupt):
        predict(shots, out, then=interrupt, frame_maps=True, writers=1)
    assert described(out)[0] == "ride.mp4/ride_000001.png"
    assert predict(shots, out, frame_maps=True)[1] == 4
    assert described(out) == [f"ride.mp4/ride_{i:06d}.png" for i in range(1, 5)]
    (outcome,), num_predicted = predict(shots, out, frame_maps=True)
    assert (num_predicted, outcome.is_earlier, outcome.frames) == (0, True, 4)
    assert isinstance(outcome, FileResult)


def hold(folder):
    with OutputFolder(Path(folder), SHAPES):
        (Path(folder) / "is held").touch()
        signal.pause()


def test_two_processes_do_not_write_into_one_folder(photos, tmp_path):
    out = tmp_path / "out"
    holder = Process(tmp_path / "log", hold, out)
    assert holder.wait_until((out / "is held").exists), holder.text
    leftover = out / ".film.0123abcd.mp4"
    leftover.touch()
    with pytest.raises(InvalidArgumentError, match=f"in use by another prediction, process {holder.pid} on .* another"):
        predict(photos, out)
    assert leftover.exists(), "it is a video that the other process is writing"
    os.kill(holder.pid, signal.SIGKILL)
    holder.end()
    predict(photos, out)
    assert described(out) == ["0.png", "1.png", "2.png"]
    assert not leftover.exists()
    assert not (out / "predictions.lock").exists()
