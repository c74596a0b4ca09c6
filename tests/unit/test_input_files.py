"""Files that users or other files name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.input_files import (
    FileFolder,
    FileNameError,
    counts_by_suffix,
    find_files,
    load_json,
    require_file,
    to_path,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/A.PNG"):
        (folder / name).touch()
    return folder


def test_names_stay_in_their_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    (folder / "out").symlink_to(tmp_path)
    (folder / "in.png").symlink_to(folder / "a.png")
    found = FileFolder(folder)
    for name in ("a.png", "sub/A.PNG", "in.png", "missing.png"):
        assert found.find(name) == folder / name
    assert FileFolder(tmp_path / "linked").find("a..b.png") == tmp_path / "linked" / "a..b.png"
    for name in (
        "../a.png",
        "/a.png",
        "sub/../../a.png",
        "sub\\..\\..\\a.png",
        "C:/a.png",
        "\\\\host\\a.png",
        "out/a.png",
    ):
        with pytest.raises(FileNameError, match="which is outside"):
            found.find(name)


def test_links_out_of_a_folder_are_followed_on_request(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").touch()
    (folder / "blob.png").symlink_to(tmp_path / "blob")
    (folder / "out").symlink_to(tmp_path)
    found = FileFolder(folder, follow_links=True)
    for name in ("blob.png", "out/blob", "OUT/BLOB"):
        assert found.find(name).samefile(tmp_path / "blob")
    for name in ("../blob", "/blob", "sub/../../blob", "C:\\blob", "out/../../blob"):
        with pytest.raises(FileNameError, match="which is outside"):
            found.find(name)


@pytest.mark.parametrize("name", [None, 3, "", ["a"], "a\x00b", "round", "a" * 300])
def test_invalid_names_are_refused(folder: Path, name: object) -> None:
    (folder / "round").symlink_to(folder / "round")
    with pytest.raises(FileNameError, match="expected the name of a file, got "):
        FileFolder(folder).find(name)


def test_names_of_other_systems_are_found(folder: Path) -> None:
    found = FileFolder(folder)
    assert found.find("sub\\A.PNG") == folder / "sub" / "A.PNG"
    assert found.find("SUB/a.png") == folder / "sub" / "A.PNG"
    assert found.find("A.png") == folder / "a.png"
    (folder / "A.Png").touch()
    assert FileFolder(folder).find("A.PNG") == folder / "A.PNG", "two candidates"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"name": "Straße"}'.encode(encoding))
    assert load_json(path) == {"name": "Straße"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": "\xff"}', b"[" * 100_000, b"\xff\xfe\x00"])
def test_invalid_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"a\.json: expected JSON, but"):
        load_json(path)


@pytest.mark.skipif(os.name == "nt", reason="has no named pipes in folders")
@pytest.mark.parametrize(("given", "found"), [("", "an empty one"), (None, "NoneType"), (5, "int"), (b"x", "bytes")])
def test_what_is_no_path_is_an_invalid_argument(given: object, found: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^expected a path, got {found}$"):
        to_path(given)
    assert to_path("x") == to_path(Path("x")) == Path("x")


def test_only_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    messages = {"pipe": "got a pipe", "": "got a folder; give", "round": "cannot be read", "x": "no such file; check"}
    for name, message in messages.items():
        with pytest.raises(UnreadableFileError, match=message):
            require_file(tmp_path / name)


def test_files_are_found_in_any_case_and_through_links_once(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "round").symlink_to(folder / "round")
    for name in (".hidden.png", "sub/b_X.Png", "c.jpg"):
        (folder / name).touch()
    names = [path.relative_to(folder).as_posix() for path in find_files(folder, {".png"})]
    assert names == ["a.png", "sub/A.PNG", "sub/b_X.Png"]
    assert find_files(folder, {".png"}, "_x") == [folder / "sub" / "b_X.Png"]
    assert find_files(folder, {".png"}, is_recursive=False) == [folder / "a.png"]
    with pytest.raises(UnreadableFileError, match="cannot list this folder"):
        find_files(folder / "missing", {".png"})


def test_files_are_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("a.txt", "b.TXT", "c.heic", "README"):
        (tmp_path / name).touch()
    found = find_files(tmp_path)
    assert len(found) == 4
    assert counts_by_suffix(found) == "2 .txt, 1 .heic, 1 without suffix"
    assert counts_by_suffix([]) == "nothing"
    assert counts_by_suffix(Path(f"a.{i}") for i in "abcdefg") == "1 .a, 1 .b, 1 .c, 1 .d, 1 .e and 2 more"
