import io
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.interop import load_solo_learn, torch_archive, torchvision_state_dict
from isojax.interop.torch_archive import read_state_dict
from tests.interop import reference


@pytest.fixture
def rewrite(tmp_path):
    """`rewrite(change)` gives the checkpoint with each file's bytes changed."""

    def write(change):
        path = tmp_path / "changed.ckpt"
        with zipfile.ZipFile(reference.CHECKPOINT) as old:
            with zipfile.ZipFile(path, "w") as new:
                for name in old.namelist():
                    content = change(name.split("/", 1)[1], old.read(name))
                    if content is not None:
                        new.writestr(name, content)
        return path

    return write


@pytest.fixture
def with_pickle(rewrite):
    """`with_pickle(bytes)` gives the checkpoint with another pickle."""
    return lambda new: rewrite(lambda name, old: new if name == "data.pkl" else old)


class Calling:
    """Calls a function wherever it is unpickled without care."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_the_backbone_of_a_checkpoint_is_read_whole():
    state_dict = torchvision_state_dict(load_solo_learn(reference.CHECKPOINT))
    assert state_dict["conv1.weight"].shape == (reference.CHECKPOINT_WIDTH, 3, 3, 3)
    for name, array in state_dict.items():
        if not name.endswith("num_batches_tracked"):
            expected = reference.draw(name, array.shape)
            np.testing.assert_array_equal(array, expected, err_msg=name)


def test_views_and_other_types_are_read_as_torch_means_them():
    tensors = read_state_dict(reference.CHECKPOINT)
    assert tensors["classifier.weight"].tolist() == [[2, 4], [3, 5]]
    momentum = tensors["momentum_backbone.conv1.weight"]
    assert momentum.dtype.name == "bfloat16" and momentum.tolist() == [*range(6)]
    assert tensors["backbone.bn1.num_batches_tracked"] == 7


def test_the_names_of_older_releases_are_known(with_pickle):
    with zipfile.ZipFile(reference.CHECKPOINT) as archive:
        content = archive.read("solo_learn/data.pkl")
    for length in range(len("backbone."), 60):  # a name follows its length
        content = content.replace(
            b"X%c\0\0\0backbone." % length, b"X%c\0\0\0encoder." % (length - 1)
        )
    older = load_solo_learn(with_pickle(content))
    newer = load_solo_learn(reference.CHECKPOINT)
    jax.tree.map(np.testing.assert_array_equal, older, newer)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {}",), "posix.system"),
        (eval, ("open('{}', 'w')",), "builtins.eval"),
        (open, ("{}", "w"), "_?io.open"),
        (setattr, (int, "{}", 1), "builtins.setattr"),
    ],
)
def test_objects_that_would_run_code_are_refused_and_not_run(
    with_pickle, tmp_path, function, arguments, name, protocol
):
    trace = tmp_path / "trace"
    arguments = [a.format(trace) if isinstance(a, str) else a for a in arguments]
    attack = Calling(function, *arguments)
    content = pickle.dumps({"state_dict": {}, "callbacks": attack}, protocol)
    with pytest.raises(UsageError, match=name):
        load_solo_learn(with_pickle(content))
    assert not trace.exists()


def test_training_objects_in_a_checkpoint_are_never_called(with_pickle, tmp_path):
    trace = tmp_path / "trace"
    saved = Calling(np.save, str(trace), np.float32(1))
    content = pickle.dumps({"state_dict": {}, "schedule": saved}, 2)
    with pytest.raises(UsageError, match=r"backbone\.\* or encoder\.\*"):
        load_solo_learn(with_pickle(content))
    assert not list(tmp_path.glob("trace*"))
    pickle.loads(content)  # what a reader without care does
    assert list(tmp_path.glob("trace*"))


@pytest.mark.parametrize("name", ["_Tensor", "_Dict", "_Inert"])
def test_a_pickle_cannot_change_the_reader(with_pickle, name):
    stand_in = getattr(torch_archive, name)
    names = {
        "_Tensor": b"ctorch._utils\n_rebuild_tensor_v2\n",
        "_Dict": b"ccollections\nOrderedDict\n",
        "_Inert": b"ctorch\nload\n",
    }
    before = dict(vars(stand_in))
    # The class, then its state as (None, {"storage": 1}), which would set attributes.
    content = b"\x80\x04" + names[name] + b"N(\x8c\x07storageK\x01d\x86b."
    with pytest.raises(UsageError, match="state_dict"):
        load_solo_learn(with_pickle(content))
    assert dict(vars(stand_in)) == before


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (6, (1,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (10**9,), (0,)),
        (0, (2, 2), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(offset, size, stride):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data/0", np.arange(6.0, dtype=np.float32).tobytes())
        storage = ("storage", "FloatStorage", "0", "cpu", 6)
        good = torch_archive._Tensor(storage, 1, (2, 2), (1, 3), False, None)
        bad = good._replace(offset=offset, size=size, stride=stride)
        array = torch_archive._read_tensor(archive, "data/", good)
        assert array.tolist() == [[1, 4], [2, 5]]
        with pytest.raises(ValueError):
            torch_archive._read_tensor(archive, "data/", bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, old: None if name == "data/5" else old, "cannot be read"),
        (lambda name, old: old[:-4] if name == "data/0" else old, "not in its storage"),
        (lambda name, old: old[:90] if name == "data.pkl" else old, "cannot be read"),
        (lambda name, old: None if name == "data.pkl" else old, "no data.pkl"),
        (lambda name, old: b"big" if name == "byteorder" else old, "big-endian"),
    ],
)
def test_a_damaged_checkpoint_is_refused(rewrite, change, message):
    with pytest.raises(UsageError, match=message):
        load_solo_learn(rewrite(change))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "state_dict"),
        ({"epoch": 1}, "state_dict"),
        ({"state_dict": {}}, "backbone.* or encoder.*; it has no tensors"),
    ],
)
def test_another_file_of_torchs_is_refused(with_pickle, content, message):
    with pytest.raises(UsageError) as refused:
        load_solo_learn(with_pickle(pickle.dumps(content, 2)))
    assert message in str(refused.value)


def test_the_format_before_zip_is_refused_with_the_way_to_convert_it(tmp_path):
    path = tmp_path / "old.ckpt"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps({}, 2))
    with pytest.raises(UsageError, match="torch.save.torch.load.OLD., NEW"):
        load_solo_learn(path)
    with pytest.raises(UsageError, match="no file"):
        load_solo_learn(tmp_path / "none.ckpt")
