from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

import pytest
from disk import refuse_to_list

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.inference.sources import find_sources, paths_from_common_folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        ".hidden.png",
        "inner/c.tif",
        "inner/deep/d.webp",
        ".git/e.png",
        "v.mp4",
    ):
        path = tmp_path / "shots" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shots"


def found(*given, **options):
    return [(s.path.as_posix(), s.name) for s in find_sources(given, **options)]


def test_a_folder_is_searched_with_the_folders_in_it(folder):
    assert found("shots") == [
        ("shots/a.PNG", "a"),
        ("shots/b.jpg", "b"),
        ("shots/inner/c.tif", "c"),
        ("shots/inner/deep/d.webp", "d"),
        ("shots/v.mp4", "v"),
    ]


def test_videos_are_recognised_by_their_ending(folder):
    assert [s.is_video for s in find_sources([folder])] == [False, False, False, False, True]
    (folder / "page.ts").write_text("const a = 1;" * 100)  # TypeScript
    (folder / "w.ts").write_bytes(3 * (b"G" + bytes(187)))
    (folder / "x.MTS").touch()
    assert [s.name for s in find_sources([folder]) if s.is_video] == ["v", "w", "x"]


def test_a_pattern_matches_sorted(folder):
    assert found("shots/*.*") == [("shots/a.PNG", "a"), ("shots/b.jpg", "b"), ("shots/v.mp4", "v")]
    assert found("shots/**/[cd].*") == [("shots/inner/c.tif", "c"), ("shots/inner/deep/d.webp", "d")]


def test_skipped_files_are_counted_by_suffix(folder, caplog):
    caplog.set_level(logging.INFO)
    for name in ("c.CR2", "inner/e.cr2", "f.JFIF", "g.avif", "h.HEIC"):
        (folder / name).touch()
    assert {name for _, name in found("shots")} == {*"abcdfghv"}
    found("shots/*.*")
    message = "skipped files without the suffix of an image or video"
    assert caplog.messages == [f"shots: {message}: 2 .cr2, 1 .txt", f"shots/*.*: {message}: 1 .cr2, 1 .txt"]
    (folder / "inner" / "raw").mkdir()
    (folder / "inner" / "raw" / "a.cr2").touch()
    with pytest.raises(UnreadableFileError, match=r"raw: expected .*, got no image or video, but 1 \.cr2; supp"):
        find_sources(["shots/inner/raw"])


def test_the_order_given_is_kept_and_nothing_comes_twice(folder):
    assert found("shots/b.jpg", "shots/inner", "shots/b.jpg", str(folder / "b.jpg"), "shots/a.PNG") == [
        ("shots/b.jpg", "b"),
        ("shots/inner/c.tif", "c"),
        ("shots/inner/deep/d.webp", "d"),
        ("shots/a.PNG", "a"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes need rights or do not exist there")
def test_links_and_pipes_do_not_stop_the_search(folder):
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "inner/up").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    names = ["a", "b", "circle", "gone", "c", "d", "pipe", "v"]  # reading them fails, file by file
    assert [name for _, name in found("shots")] == names
    assert [name for _, name in found("shots/circle.png", "shots/gone.png")] == ["circle", "gone"]
    assert [name for _, name in found("shots/*.png")] == ["circle", "gone", "pipe"]


def test_a_subfolder_that_may_not_be_listed_is_one_failure(folder, monkeypatch):
    refuse_to_list(monkeypatch, folder / "inner/deep")
    sources = find_sources(["shots", folder, "shots/inner"])
    assert [s.path.name for s in sources] == ["a.PNG", "b.jpg", "c.tif", "v.mp4", "deep"]
    assert [s.path.name for s in sources if s.fault] == ["deep"]
    assert "cannot list this folder (Permission denied)" in str(sources[-1].fault)
    assert len(find_sources(["shots"], leave_out=folder / "inner")) == 3


def test_what_gives_nothing_is_one_failure_beside_good_sources(folder):
    (folder / "none").mkdir()
    given = ["shots/none", "shots/gone.jpg", "shots/a.PNG", "shots/*.bmp", "https://e.org/a.jpg", "shots/none"]
    sources = find_sources(given)
    assert [s.name for s in sources] == ["a", "", "", "", ""]
    for source, message in zip(
        sources[1:],
        (
            "shots/none: expected a folder with images or videos, got an empty one; supported",
            "shots/gone.jpg: no such file or folder",
            "shots/*.bmp: no image or video matches this pattern; check it, and quote it",
            "https://e.org/a.jpg: URLs are not supported",
        ),
        strict=True,
    ):
        assert str(source.fault).startswith(message)
    with pytest.raises(UnreadableFileError, match=r"^shots/none: expected"):
        find_sources([*given[:2], *given[3:]])


def test_long_names_leave_room_for_the_suffixes_of_results(tmp_path):
    paths = [tmp_path / f"{251 * 'x'}.png", tmp_path / f"{250 * 'x'}y.png", tmp_path / f"{120 * 'ß'}.png"]
    for path in paths:
        path.touch()
    assert [s.name for s in find_sources(paths)] == [200 * "x", f"{200 * 'x'}_2", 100 * "ß"]


def test_a_file_named_outright_is_taken_whatever_its_ending(folder):
    assert found("shots/notes.txt") == [("shots/notes.txt", "notes")]


def test_a_name_with_brackets_that_exists_is_no_pattern(folder):
    (folder / "odd[1].png").touch()
    assert found("shots/odd[1].png") == [("shots/odd[1].png", "odd[1]")]


def test_results_of_an_earlier_run_are_left_out(folder):
    for name in ("b.png", "panoptic/b.png"):
        path = folder / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert not [p for p, _ in found("shots", leave_out=folder / "out") if "out" in p]
    assert not [p for p, _ in found("shots/**/*.[pt]*", leave_out=folder / "out") if "out" in p]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.jpg", "y/a.jpg"], ["x_a", "y_a"]),
        (["x/1/a.jpg", "y/1/a.jpg", "y/2/b.jpg"], ["x_1_a", "y_1_a", "b"]),
        (["x/a.jpg", "x/a.png"], ["a_jpg", "a_png"]),
        (["x/a.jpg", "x/A.png"], ["a_jpg", "A_png"]),
        (["x/a.jpg", "y/A.jpg"], ["x_a", "y_A"]),
        (["n/A/b.jpg", "n/a/b.jpg", "n/a_b.png"], ["A_b", "a_b_2", "a_b_3"]),
        (["x/7.jpg", "y/007.jpg"], ["x_7", "y_007"]),  # one number in COCO's JSON
        (["x/a.jpg", "y/a_panels.jpg"], ["x_a", "y_a_panels"]),
        (["x/a.png", "x/a_panels.png"], ["a_png", "a_panels_png"]),
        (["x/a_panels", "x/a"], ["a_panels", "a_2"]),  # no ending to add
        (["x/a.png", "x/a.jpg", "x/a_png.gif"], ["a_png", "a_jpg", "a_png_2"]),
        (["x/a.png", "x/a_panels.png", "y/a.png"], ["a_png", "a_panels_png", "a"]),
        (["x/a.jpg", "x/a.png", "y/a.jpg", "y/a.png"], ["x_a_jpg", "x_a_png", "y_a_jpg", "y_a_png"]),
    ],
)
def test_names_never_clash(tmp_path, paths, names):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert [s.name for s in find_sources([tmp_path / p for p in paths])] == names


def test_names_that_read_the_same_in_every_way_are_numbered(tmp_path):
    paths = [f"{'/'.join(parts)}.jpg" for parts in itertools.product(("p_q", "p/q"), ("r",))]
    paths += ["p_q_r.jpg"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    names = [s.name for s in find_sources([tmp_path / p for p in paths])]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["photos/a/x.png", "photos/b/x.png"], ["a/x.png", "b/x.png"]),
        (["photos/x.png", "photos/night/../b/x.png", "photos/b/c/x.png"], ["x.png", "b/x.png", "b/c/x.png"]),
        (["photos/a/x.png"], ["x.png"]),
        (["a/x.png", "/x.png"], None),
    ],
)
def test_paths_from_the_common_folder_are_unique_and_lead_back(tmp_path, monkeypatch, paths, expected):
    monkeypatch.chdir(tmp_path)
    if expected is None:
        expected = [(tmp_path / "a/x.png").as_posix().lstrip("/"), "x.png"]
    assert paths_from_common_folder([Path(p) for p in paths]) == expected


class TestRefusals:
    @pytest.mark.parametrize("given", ["shots", "shots/a.PNG", "shots/inner"])
    def test_sources_that_results_might_replace(self, folder, given):
        with pytest.raises(InvalidArgumentError, match="is in the output folder"):
            find_sources([given], leave_out=folder)

    def test_nothing_given(self):
        with pytest.raises(InvalidArgumentError, match="got nothing"):
            find_sources([])

    def test_an_empty_name_is_not_the_working_directory(self, folder):
        with pytest.raises(InvalidArgumentError, match=r"got an empty name; use \. for this folder"):
            find_sources([""])

    def test_a_name_that_no_file_system_allows(self, tmp_path):
        with pytest.raises(UnreadableFileError, match="no such file or folder"):
            find_sources([str(tmp_path / (300 * "x"))])

    def test_a_folder_without_images(self, tmp_path):
        (tmp_path / "notes.txt").touch()
        with pytest.raises(UnreadableFileError, match=r"no image or video, but 1 \.txt; supp.* \(JPEG.* \(MP4"):
            find_sources([tmp_path])

    def test_a_pattern_without_matches(self, folder):
        with pytest.raises(UnreadableFileError, match=r"shots/\*\.bmp: no image or video matches this pattern"):
            find_sources(["shots/*.bmp"])

    def test_a_path_that_is_not_there_suggests_its_neighbour(self, folder):
        with pytest.raises(
            UnreadableFileError, match=r"shots/bb\.jpg: no such file or folder; did you mean shots/b\.jpg"
        ):
            find_sources(["shots/bb.jpg"])
        with pytest.raises(UnreadableFileError, match="no such file or folder"):
            find_sources(["nowhere/at/all.jpg"])

    def test_an_address(self):
        with pytest.raises(UnreadableFileError, match="download the file"):
            find_sources(["https://example.org/a.jpg"])

    def test_a_folder_that_may_not_be_listed(self, folder, monkeypatch):
        refuse_to_list(monkeypatch, folder / "inner")
        with pytest.raises(UnreadableFileError, match=r"inner: cannot list this folder \(Permission denied\); check"):
            find_sources([folder / "inner"])
