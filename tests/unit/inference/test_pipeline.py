"""Complete runs with a model that predicts color-coded images correctly."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from color_model import ColorModel, painted
from disk import refuse_to_list
from json_schemas import require_schema
from maps import SHAPES, generated_map
from PIL import Image

from panscape.datasets.coco_panoptic import CocoPanoptic
from panscape.errors import InvalidArgumentError, MissingExtraError
from panscape.images import load_image, save_png
from panscape.inference import pipeline
from panscape.inference.debug_sheet import debug_sheet
from panscape.inference.output_folder import OutputFolder
from panscape.inference.pipeline import PredictionRun
from panscape.inference.predictor import Predictor
from panscape.inference.results import FileError, FileResult, SegmentResult, Timings
from panscape.inference.sources import find_sources
from panscape.inference.video import VideoReader
from panscape.inference.video_writer import VideoWriter
from panscape.panoptic import PanopticMap


class Heard:
    """Records the progress of a run."""

    def __init__(self):
        self.outcomes, self.frames = [], []

    def on_result(self, outcome):
        self.outcomes.append(outcome)

    def on_frame(self, source, index, num_frames):
        self.frames.append((source.name, index, num_frames))


def truth_of(image):
    model = ColorModel().eval()
    return model.decode(model(image[None].float() / 255), [tuple(image.shape[1:])])[0]


def predict(folder, out, *, model=None, image_format="jpeg", **options):
    heard = Heard()
    with OutputFolder(out, SHAPES, image_format=image_format) as outputs:
        failures = PredictionRun(Predictor(model or ColorModel(), device="cpu"), outputs, **options).predict_files(
            find_sources([folder]), heard
        )
    return heard, failures


def decoded_semantic(out, name):
    """Read a map back with only Pillow and JSON, according to the COCO format."""
    description = json.loads((out / "panoptic.json").read_text())
    (annotation,) = [a for a in description["annotations"] if a["file_name"] == f"{name}.png"]
    red, green, blue = torch.tensor(np.asarray(Image.open(out / "panoptic" / f"{name}.png")).astype(int)).unbind(-1)
    ids = red + 256 * green + 65536 * blue
    semantic = torch.full_like(ids, -1)
    for segment in annotation["segments_info"]:
        assert int((ids == segment["id"]).sum()) == segment["area"]
        semantic[ids == segment["id"]] = segment["category_id"]
    return semantic


def test_overlays_and_maps_of_a_folder(photos, tmp_path):
    heard, failures = predict(photos, tmp_path / "out")
    assert failures == []
    assert [o.name for o in heard.outcomes] == ["0", "1", "2"]
    for i, outcome in enumerate(heard.outcomes):
        image = load_image(photos / f"{i}.png")
        truth = truth_of(image)
        assert (outcome.height, outcome.width, outcome.frames) == (64, 96 + i, 1)
        assert outcome.num_segments == truth.num_segments
        assert outcome.num_things == int((truth.category >= 2).sum())
        assert outcome.overlay == str(tmp_path / "out" / f"{i}.jpg")
        assert load_image(outcome.overlay).shape == image.shape
        source = torch.tensor([11, 7, 24, 26, -1])  # the numbers of SHAPES on disk; void stays -1
        assert torch.equal(decoded_semantic(tmp_path / "out", str(i)), source[truth.semantic(void=-1)])
    json.loads((tmp_path / "out/panoptic.json").read_text())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "panoptic",
        "panoptic.json",
        "predictions.jsonl",
    ]


def test_a_run_can_be_read_back_with_its_images(tmp_path):
    folder = tmp_path / "photos"
    images = {f"{part}/x.png": painted(generated_map(i, (64, 96))) for i, part in enumerate(("a", "b/c", "b"))}
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_png(folder / name, image)
    predict(folder, tmp_path / "out")
    samples = list(CocoPanoptic(tmp_path / "out/panoptic.json", tmp_path / "out/panoptic", folder))
    assert len(samples) == 3
    for sample, image in zip(samples, images.values(), strict=True):
        assert torch.equal(sample.image, image)
        assert torch.equal(sample.truth.semantic(void=-1), truth_of(image).semantic(void=-1))


def test_libraries_and_kernels_are_loaded_before_the_first_image(photos, tmp_path):
    model = ColorModel()
    heard, _ = predict(photos, tmp_path / "out", model=model)
    assert len(model.seen) == 1 + len(heard.outcomes)
    assert model.seen[0][1] == (1, 3, 64, 64)


def test_every_kind_of_photo_is_read(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rgb = Image.fromarray(painted(generated_map(0, (40, 60))).permute(1, 2, 0).numpy())
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    rgb.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray((torch.arange(2400).reshape(40, 60) * 27).to(torch.uint16).numpy()).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is stored 40 high is shown 60 high
    rgb.save(folder / "turned.jpg", exif=exif, quality=95)
    heard, failures = predict(folder, tmp_path / "out")
    assert failures == []
    sizes = {o.name: (o.height, o.width) for o in heard.outcomes}
    assert sizes == {
        "alpha": (40, 60),
        "deep": (40, 60),
        "grey": (40, 60),
        "palette": (40, 60),
        "turned": (60, 40),
    }
    assert load_image(tmp_path / "out/turned.jpg").shape == (3, 60, 40)
    assert decoded_semantic(tmp_path / "out", "turned").shape == (60, 40)


def test_a_broken_photo_stops_no_other(photos, tmp_path):
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:60])
    (photos / "text.jpg").write_text("not a photo")
    heard, failures = predict(photos, tmp_path / "out")
    assert [type(o) for o in heard.outcomes] == [FileResult, FileError, FileResult, FileError]
    assert [f.source for f in failures] == [str(photos / "1.png"), str(photos / "text.jpg")]
    assert all("\n" not in f.error and not f.error.startswith(f.source) for f in failures)
    assert [i["id"] for i in json.loads((tmp_path / "out/panoptic.json").read_text())["images"]] == [0, 2]


def test_panels_show_the_outputs(photos, tmp_path):
    predict(photos, tmp_path / "out", panels=True, image_format="png")
    image = load_image(photos / "0.png")
    truth = truth_of(image)
    sheet = load_image(tmp_path / "out/0_panels.png")
    assert torch.equal(sheet, debug_sheet(image, truth, SHAPES, {"semantic": painted_without_void(image)}))
    assert sheet.shape[1] > 2 * 64
    assert sheet.shape[2] > 2 * 96


@pytest.mark.parametrize(("size", "sheet"), [((1024, 2048), (1352, 1660)), ((2048, 1024), (1674, 1260))])
def test_a_sheet_of_a_large_image_stays_small(size, sheet):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    panels = dict.fromkeys(("semantic", "centers", "offsets"), image)
    drawn = debug_sheet(image, PanopticMap.empty(size), SHAPES, panels)
    assert all(abs(a - b) <= 40 for a, b in zip(drawn.shape[1:], sheet, strict=True)), drawn.shape


def painted_without_void(image):
    model = ColorModel().eval()
    return model.visualize(model(image[None].float() / 255), tuple(image.shape[1:]))["semantic"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(InvalidArgumentError, match="expected a folder for results"):
        OutputFolder(tmp_path / "out", SHAPES)
    with pytest.raises(InvalidArgumentError, match="expected a folder for results"):
        OutputFolder(tmp_path / "out" / "deeper", SHAPES)


class TestVideo:
    @pytest.fixture
    def shots(self, tmp_path):
        pytest.importorskip("av")
        folder = tmp_path / "shots"
        folder.mkdir()
        with VideoWriter(folder / "ride.mp4", Fraction(10)) as writer:
            for i in range(6):
                writer.write(painted(generated_map(i, (64, 96), void=False)))
        return folder

    def test_a_video_becomes_a_video_of_its_length_and_rate(self, shots, tmp_path):
        heard, failures = predict(shots, tmp_path / "out")
        assert failures == []
        (done,) = heard.outcomes
        assert (done.frames, done.height, done.width) == (6, 64, 96)
        assert done.overlay == str(tmp_path / "out/ride.mp4")
        assert require_schema(json.loads(json.dumps(done.to_dict())), "predict")["segments"] is None
        assert heard.frames == [("ride", i, 6) for i in range(1, 7)]
        with VideoReader(tmp_path / "out/ride.mp4") as reader:
            assert reader.rate == 10
            assert [tuple(f.image.shape) for f in reader.frames()] == [(3, 64, 96)] * 6
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["predictions.jsonl", "ride.mp4"]

    def test_maps_of_frames_on_request(self, shots, tmp_path):
        predict(shots, tmp_path / "out", frame_maps=True)
        names = [f"ride_{i:06d}" for i in range(1, 7)]
        assert sorted(p.stem for p in (tmp_path / "out/panoptic").iterdir()) == names
        images = json.loads((tmp_path / "out/panoptic.json").read_text())["images"]
        assert [i["id"] for i in images] == names
        assert [i["file_name"] for i in images] == [f"ride.mp4/{n}.png" for n in names]

    def test_an_interruption_leaves_no_part_of_a_video(self, shots, tmp_path):
        class Breaks(ColorModel):
            def decode(self, outputs, sizes):
                if len(self.seen) == 4:  # the first was for warming up
                    raise KeyboardInterrupt
                return super().decode(outputs, sizes)

        with pytest.raises(KeyboardInterrupt):
            predict(shots, tmp_path / "out", model=Breaks())
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_broken_video_stops_no_photo(self, shots, tmp_path):
        whole = (shots / "ride.mp4").read_bytes()
        (shots / "cut.mp4").write_bytes(whole[:100])
        save_png(shots / "a.png", painted(generated_map(0)))
        save_png(shots / "z.png", painted(generated_map(1)))
        heard, failures = predict(shots, tmp_path / "out")
        assert [type(o) for o in heard.outcomes] == [FileResult, FileError, FileResult, FileResult]
        assert [f.source for f in failures] == [str(shots / "cut.mp4")]
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
            "a.jpg",
            "panoptic",
            "panoptic.json",
            "predictions.jsonl",
            "ride.mp4",
            "z.jpg",
        ]


def test_json_lines_have_the_segments_of_the_written_map(photos, tmp_path):
    heard, _ = predict(photos, tmp_path / "out")
    for i, outcome in enumerate(heard.outcomes):
        line = require_schema(json.loads(json.dumps(outcome.to_dict())), "predict")
        assert all(line[key] > 0 for key in line if key.endswith("_ms"))
        assert line["overlay"] == str(tmp_path / f"out/{i}.jpg")
        assert line["map"] == str(tmp_path / f"out/panoptic/{i}.png")
        ids = np.asarray(Image.open(line["map"])).astype(int) @ [1, 256, 65536]
        truth = truth_of(load_image(photos / f"{i}.png"))
        assert len(line["segments"]) == line["num_segments"] == truth.num_segments
        for segment, mask in zip(line["segments"], truth.masks().numpy(), strict=True):
            assert np.array_equal(ids == segment["id"], mask)
            category = int(truth.category[segment["id"] - 1])
            assert segment["category"] == category
            assert (segment["name"], segment["is_thing"]) == (SHAPES[category].name, SHAPES[category].is_thing)
            y, x = mask.nonzero()
            assert segment["area"] == len(y)
            assert segment["box"] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert segment["score"] is None if truth.score is None else 0 <= segment["score"] <= 1


def test_json_lines_of_errors_and_of_segments_without_scores_follow_the_schema():
    assert require_schema(FileError("a", "b").to_dict(), "predict") == {"source": "a", "error": "b"}
    segment = SegmentResult(1, 2, "box", True, None, 12, (0, 1, 4, 4))
    image = FileResult("a", "a", 5, 6, 1, 1, 1, Timings(), "a.png", "panoptic/a.png", [segment])
    require_schema(json.loads(json.dumps(image.to_dict())), "predict")
    with pytest.raises(jsonschema.ValidationError):  # images have segments
        require_schema(replace(image, segments=None).to_dict(), "predict")


def test_results_are_the_same_with_any_number_of_writers(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        save_png(folder / f"{i:02d}.png", painted(generated_map(i, (40 + 20 * (i % 3), 60))))
    (folder / "05.png").write_bytes(b"broken")
    told = {}
    for writers in (1, 4):
        heard, failures = predict(folder, tmp_path / f"out{writers}", writers=writers, panels=True)
        assert [Path(o.source).stem for o in heard.outcomes] == [f"{i:02d}" for i in range(12)]
        assert [Path(f.source).name for f in failures] == ["05.png"]
        out = tmp_path / f"out{writers}"
        (out / "predictions.jsonl").unlink()  # has times
        told[writers] = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert told[1] == told[4]
    assert len(told[1]) == 3 * 11 + 1


def test_writing_does_not_delay_the_network(photos, tmp_path):
    seen = []

    class Waits(OutputFolder):
        def write_overlay(self, name, image, result):
            if name == "0":
                assert third.wait(timeout=60)
            return super().write_overlay(name, image, result)

    third = threading.Event()

    class Tells(ColorModel):
        def decode(self, outputs, sizes):
            seen.append(sizes)
            if len(seen) == 1 + 3:  # the first was for warming up
                third.set()
            return super().decode(outputs, sizes)

    model, heard = Tells(), Heard()
    with Waits(tmp_path / "out", SHAPES) as outputs:
        PredictionRun(Predictor(model, device="cpu"), outputs, writers=2).predict_files(find_sources([photos]), heard)
    assert [o.name for o in heard.outcomes] == ["0", "1", "2"]


def test_an_image_that_cannot_be_written_stops_no_other(photos, tmp_path):
    class Refuses(OutputFolder):
        def write_overlay(self, name, image, result):
            if name == "1":
                raise InvalidArgumentError("expected sides of at most 65500 pixels")
            return super().write_overlay(name, image, result)

    heard = Heard()
    with Refuses(tmp_path / "out", SHAPES) as outputs:
        failures = PredictionRun(Predictor(ColorModel(), device="cpu"), outputs).predict_files(
            find_sources([photos]), heard
        )
    assert [f.source for f in failures] == [str(photos / "1.png")]
    assert [type(o) for o in heard.outcomes] == [FileResult, FileError, FileResult]
    assert [i["id"] for i in json.loads((tmp_path / "out/panoptic.json").read_text())["images"]] == [0, 2]


@pytest.mark.parametrize(("given", "used"), [(None, 12), (16, 16)])
def test_images_of_a_run_have_the_same_bit_depth(photos, tmp_path, monkeypatch, given, used):
    depths = []

    def load(path, bit_depth, may_clip):
        depths.append((bit_depth, may_clip))
        return load_image(path).numpy()

    monkeypatch.setattr(pipeline, "read_image", load)
    for name, highest in (("dark", 300), ("bright", 4000)):
        Image.fromarray(np.array([[0, highest]], np.uint16)).save(photos / f"{name}.png")
    with OutputFolder(tmp_path / "out", SHAPES) as outputs:
        run = PredictionRun(Predictor(ColorModel(), device="cpu"), outputs, bit_depth=given)
        run.predict_files(find_sources([photos]), Heard())
    assert depths == [(used, given is not None)] * 5
    with pytest.raises(InvalidArgumentError, match="expected a bit depth of 8 to 16, got 7"):
        PredictionRun(Predictor(ColorModel(), device="cpu"), outputs, bit_depth=7)


@pytest.mark.skipif(os.name == "nt", reason="names and pipes of other systems")
def test_inputs_of_strangers_fail_one_by_one(photos, tmp_path, monkeypatch):
    (photos / "loop.png").symlink_to("loop.png")
    os.mkfifo(photos / "pipe.png")
    os.mkfifo(photos / "pipe.mp4")
    (photos / "locked.mp4").mkdir()
    refuse_to_list(monkeypatch, photos / "locked.mp4")
    (tmp_path / "out/1.jpg").mkdir(parents=True)
    odd = [photos / f"{250 * 'x'}.png", photos / os.fsdecode(b"caf\xe9.png"), photos / "new\nline.png"]
    for path in odd:
        path.write_bytes((photos / "2.png").read_bytes())

    def load(path, **options):
        if path.name == "0.png":
            raise ZeroDivisionError("of a decoder")
        return load_image(path, **options).numpy()

    monkeypatch.setattr(pipeline, "read_image", load)
    heard, failures = predict(photos, tmp_path / "out")
    failed = {Path(f.source).name: f.error for f in failures}
    assert sorted(failed) == ["0.png", "1.png", "locked.mp4", "loop.png", "pipe.mp4", "pipe.png"]
    assert failed["0.png"] == "ZeroDivisionError: of a decoder"
    assert failed["1.png"].endswith("out/1.jpg: a folder has this name; move it, or write to another folder")
    assert failed["locked.mp4"] == "cannot list this folder (Permission denied); check its permissions"
    assert failed["pipe.mp4"] == failed["pipe.png"] == "expected a file, got a pipe or a device"
    assert {Path(o.source) for o in heard.outcomes if isinstance(o, FileResult)} == {photos / "2.png", *odd}
    maps = {a["file_name"] for a in json.loads((tmp_path / "out/panoptic.json").read_text())["annotations"]}
    assert maps == {f"{200 * 'x'}.png", os.fsdecode(b"caf\xe9.png"), "new\nline.png", "2.png"}


def test_without_pyav_photos_are_predicted_and_videos_name_the_extra(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (photos / "a.mp4").touch()
    heard, (failure,) = predict(photos, tmp_path / "out")
    assert [type(o) for o in heard.outcomes] == [*3 * [FileResult], FileError]
    assert failure.error == "reading and writing video needs av; install it with: pip install 'panscape[video]'"
    with pytest.raises(MissingExtraError, match="video needs av"):
        predict(photos / "a.mp4", tmp_path / "out")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_ends_the_run_and_keeps_what_is_written(number, photos, tmp_path):
    class Full(OutputFolder):
        def write_overlay(self, name, image, result):
            if name == "1":
                raise OSError(number, os.strerror(number), "1.jpg")
            return super().write_overlay(name, image, result)

    with pytest.raises(OSError, match=os.strerror(number)), Full(tmp_path / "out", SHAPES) as outputs:
        PredictionRun(Predictor(ColorModel(), device="cpu"), outputs, writers=1).predict_files(
            find_sources([photos]), Heard()
        )
    heard, failures = predict(photos, tmp_path / "out")
    assert [o.is_earlier for o in heard.outcomes[:2]] == [True, False]
    assert failures == []


def test_the_overlay_of_an_image_too_long_for_a_jpeg_is_a_png(tmp_path, caplog):
    (tmp_path / "long").mkdir()
    save_png(tmp_path / "long/a.png", torch.zeros(3, 1, 65_501, dtype=torch.uint8))
    heard, failures = predict(tmp_path / "long", tmp_path / "out")
    assert failures == []
    assert heard.outcomes[0].overlay == str(tmp_path / "out/a.png")
    assert load_image(tmp_path / "out/a.png").shape == (3, 1, 65_501)
    assert "a: its overlay is a PNG, as sides of a JPEG have at most 65500 pixels" in caplog.text
    assert predict(tmp_path / "long", tmp_path / "out")[0].outcomes[0].is_earlier
