from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from panscape.errors import UnreadableFileError
from panscape.zoo.published.read import read_checkpoint


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.normal(size=(4, 3, 2, 1)).astype(np.float32),
        "turned": np.asfortranarray(rng.normal(size=(3, 5)).astype(np.float32)),
        "swapped": rng.normal(size=(2, 3, 4)).transpose(1, 0, 2),
        "half": rng.normal(size=7).astype(np.float16),
        "big_endian": rng.normal(size=(2, 2)).astype(">f4"),
        "counter": np.array(12_345),
        "nothing": np.zeros((0, 3), np.float32),
    }


def written(content: object, path: Path, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_become_tensors(protocol: int, tmp_path: Path) -> None:
    content = {
        "model": OrderedDict(arrays()),
        "__author__": "somebody",
        "iteration": 3,
        "shape": (1, [2.5, None, True]),
    }
    state = read_checkpoint(written(content, tmp_path / "model.pkl", protocol))
    assert list(state) == list(arrays())
    for name, array in arrays().items():
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
        assert state[name].dtype == torch.from_numpy(native).dtype
        assert state[name].is_contiguous()
        assert np.array_equal(state[name].numpy(), native)


def test_scalars_of_numpy_and_bare_state_dicts_are_read(tmp_path: Path) -> None:
    state = read_checkpoint(written({"a": np.float32(0.1), "b": np.int64(-7)}, tmp_path / "model.pkl", 2))
    assert state["a"].shape == state["b"].shape == ()
    assert state["a"].item() == np.float32(0.1)
    assert (state["b"].item(), state["b"].dtype) == (-7, torch.int64)


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_a_pickle_of_python_2_is_read(package: bytes, tmp_path: Path) -> None:
    # {"model": {"a": array}} as cPickle of Python 2 wrote it with protocol 2, where texts are bytes.
    values = np.array([[-1.5, 0.3], [1e9, -0.0], [3e-39, 255.75]], np.float32)
    content = b"\x80\x02}U\x05model}U\x01a"
    content += b"c" + package + b".multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    content += b"(K\x01K\x03K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
    content += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x18" + values.tobytes() + b"tbss."
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    state = read_checkpoint(path)
    assert state["a"].numpy().tobytes() == values.tobytes()
    assert state["a"].shape == (3, 2)
    assert np.array_equal(state["a"], pickle.loads(content, encoding="latin1")["model"]["a"])  # NumPy's own reader


def test_a_file_of_torch_may_end_in_pkl(tmp_path: Path) -> None:
    for is_zip in (True, False):
        path = tmp_path / f"{is_zip}.pkl"
        torch.save({"model": {"a": torch.arange(3)}}, path, _use_new_zipfile_serialization=is_zip)
        assert torch.equal(read_checkpoint(path)["a"], torch.arange(3))


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must not run",))


def naming(module: str, name: str, *opcodes: bytes) -> bytes:
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + b"".join(opcodes) + b"."


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (pickle.dumps({"model": {"a": _Payload()}}, 2), "'__builtin__.print'"),
        (pickle.dumps({"model": {"a": _Payload()}}, 4), "'builtins.print'"),
        (pickle.dumps({"model": {"a": _Payload()}}, 0), "'__builtin__.print'"),
        (naming("os", "system", b"U\x04true\x85R"), "'os.system'"),
        (naming("__builtin__", "eval", b"U\x011\x85R"), "'__builtin__.eval'"),
        (naming("builtins", "getattr"), "'builtins.getattr'"),
        (naming("numpy", "load"), "'numpy.load'"),
        (naming("numpy.core.multiarray", "fromfile"), "'numpy.core.multiarray.fromfile'"),
        (naming("numpy._core.multiarray", "_reconstruct.__globals__"), "_reconstruct.__globals__'"),
        (naming("numpy.numpy._core.multiarray", "_reconstruct"), "'numpy.numpy._core.multiarray._reconstruct'"),
        (naming("torch._utils", "_rebuild_tensor_v2"), "'torch._utils._rebuild_tensor_v2'"),
        (naming("\x1b[2J", "x" * 200), r"'\x1b[2J.xxx"),
        (pickle.dumps({"a": np.array([1, "two", None], object)}, 4), "an array of type 'O8'"),
        (pickle.dumps({"a": np.array(["text"])}, 4), "an array of type 'U4'"),
        (pickle.dumps({"a": np.zeros(2, [("x", "f4")])}, 4), "an array of type 'V4'"),
    ],
)
def test_code_in_pickles_is_refused_by_name(
    content: bytes, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected a .pkl checkpoint of arrays and plain containers, but it holds other ")
    assert what in message
    assert message.endswith("read it with their code and save the state dict alone with torch.save")
    assert "\x1b" not in message
    assert "must not run" not in capsys.readouterr().out


def array_with(*, shape: bytes = b"K\x02\x85", kind: bytes = b"U\x02f4", data: bytes) -> bytes:
    """Return a pickle of one array, of two float32 values unless some part of it is another."""
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\n" + kind + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return b"\x80\x02}U\x01a" + made + b"(K\x01" + shape + dtype + b"\x89" + data + b"tbs."


EIGHT = b"U\x08" + struct.pack("<2f", 1.5, -2)


def test_the_array_that_is_spoilt_below_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(array_with(data=EIGHT))
    assert read_checkpoint(path)["a"].tolist() == [1.5, -2]


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"model": arrays()}, 4)[:-100],
        pickle.dumps({"model": arrays()}, 2)[:700],
        b"\x80\x04",
        b"\x80\x02abcdef",
        array_with(shape=b"K\x03\x85", data=EIGHT),  # more values than there are
        array_with(shape=b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86", data=EIGHT),  # (-1, -2)
        array_with(shape=b"\x8a\x08" + b"\xff" * 7 + b"\x7fK\x00\x86", data=b"U\x00"),  # none, of 2**63 - 1 rows
        array_with(shape=b"K\x02", data=EIGHT),
        array_with(shape=b"G@\x00\x00\x00\x00\x00\x00\x00\x85", data=EIGHT),  # (2.0,)
        array_with(shape=b"U\x012\x85", data=EIGHT),
        array_with(data=b"K\x08"),
        array_with(data=b"N"),
        array_with(data=b"(K\x01K\x02l"),
        array_with(kind=b"]", data=EIGHT),
        array_with(data=EIGHT)[:-4],
        # Stand-ins of NumPy's functions, with other arguments than NumPy's own.
        naming("numpy", "ndarray", b"K\x02\x85R"),
        naming("numpy", "dtype", b"U\x02f4\x85RK\x07b"),
        naming("numpy", "dtype", b"K\x07b"),
        naming("numpy.core.multiarray", "_reconstruct", b"K\x02\x85R"),
        naming("numpy.core.multiarray", "_reconstruct", b"N}U\x0c__defaults__K\x07s\x86b"),
        naming("numpy.core.multiarray", "scalar", b"K\x02K\x02\x86R"),
        naming("numpy.core.numeric", "_frombuffer", b"\x8a\x05\xff\xff\xff\xff\x7f", b"NK\x02U\x01Ct", b"R"),
        naming("collections", "OrderedDict", b"}U\x05itemsK\x07sb"),
        naming("_codecs", "encode", b"U\x01aU\x06base64\x86R"),
        b"\x80\x02U\x010Q.",  # something that is kept outside the file
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f",  # bytes without end
    ],
)
def test_a_damaged_pickle_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == (
        f"{path}: expected a .pkl checkpoint of arrays and plain containers, but the file is damaged or cut off; "
        "download it again"
    )


@pytest.mark.parametrize(
    "content", [b"hello there", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b\x08", b"\x80cK\x01."]
)
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"arrays and plain containers, but this is another kind of file"):
        read_checkpoint(path)


def test_missing_and_empty_files_and_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file; check its name"):
        read_checkpoint(tmp_path / "absent.pkl")
    (tmp_path / "empty.pkl").touch()
    with pytest.raises(UnreadableFileError, match="but the file is empty; download it again"):
        read_checkpoint(tmp_path / "empty.pkl")
    (tmp_path / "folder.pkl").mkdir()
    with pytest.raises(UnreadableFileError, match="expected a file, got a folder"):
        read_checkpoint(tmp_path / "folder.pkl")


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": "text"}}, {"a": 1.5}, "text", None, {"a": [np.zeros(2)]}])
def test_a_pickle_of_something_else_is_no_state_dict(content: object, tmp_path: Path) -> None:
    path = written(content, tmp_path / "model.pkl")
    with pytest.raises(UnreadableFileError, match=r"expected one state dict .*, bare or under a key .*, got none"):
        read_checkpoint(path)


def test_a_state_dict_is_found_under_any_key(tmp_path: Path) -> None:
    weights, ema = {"a": torch.zeros(1)}, {"a": torch.ones(1)}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(1)}}, "param_groups": [{"lr": 0.1}]}
    path = tmp_path / "checkpoint.pth"
    contents: list[dict[str, Any]] = [
        {"epoch": 3, "model_state_dict": ema, "optimizer_state_dict": optimizer},
        {"model": {"state_dict": ema}, "ema": weights},
        {"state_dict": ema, "callbacks": {"best": {"score": torch.zeros(1)}}},
    ]
    for content in contents:
        content["itself"] = content
        torch.save(content, path)
        assert read_checkpoint(path) == ema
    torch.save({"teacher": weights, "nets": {"student": ema}}, path)
    with pytest.raises(UnreadableFileError) as caught:
        read_checkpoint(path)
    assert str(caught.value).endswith(
        "got several, under ['teacher'], ['nets']['student']; save the right one alone: "
        "torch.save(torch.load(FILE, weights_only=True)['teacher'], OTHER)"
    )


def test_an_archive_that_holds_a_checkpoint_must_be_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.tar")
    with ZipFile(tmp_path / "released.zip", "w") as archive:  # as seamseg is released
        archive.write(tmp_path / "weights.tar", "weights.tar")
        archive.writestr("config.ini", "[general]")
    with pytest.raises(UnreadableFileError, match="but this is an archive of other files; unpack it and pass"):
        read_checkpoint(tmp_path / "released.zip")
    assert list(read_checkpoint(tmp_path / "weights.tar")) == ["a"]


def test_the_parts_of_seamseg_are_one_state_dict(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    parts = {part: {"x.weight": tensor} for part in ("sem_head", "body", "rpn_head", "roi_head")}
    training = {
        "loss_meter": {"sum": tensor},
        "optimizer": {"state": {0: {"momentum_buffer": tensor}}, "param_groups": [{"lr": 0.1}]},
    }
    content = {"config": "[general]", "state_dict": parts | training}
    path = tmp_path / "weights.tar"
    torch.save(content, path)
    assert list(read_checkpoint(path)) == [f"{part}.x.weight" for part in parts]
    # Others are kept, missing ones not required: the load that follows reports both.
    others = {"depth_head": {"w": tensor}, "more": {"a": {"b": tensor}}}
    del parts["roi_head"]
    torch.save({"state_dict": parts | others | training}, path)
    assert set(read_checkpoint(path)) == {*(f"{part}.x.weight" for part in parts), "depth_head.w", "more.a.b"}
