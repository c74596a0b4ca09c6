from __future__ import annotations

import json

import pytest

from panscape.atomic_io import atomic_write, write_json
from panscape.errors import InvalidArgumentError


@pytest.mark.parametrize("durable", [False, True])
def test_the_file_appears_when_the_block_ends(tmp_path, durable):
    path = tmp_path / "a.txt"
    with atomic_write(path, durable=durable) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def fail_halfway(path):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stopped")


def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stopped"):
        fail_halfway(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, "ü"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, "ü"]}
    with pytest.raises(
        InvalidArgumentError, match=r"cannot write .*a\.json: the folder .*no does not exist; create it"
    ):
        write_json(tmp_path / "no" / "a.json", {})
