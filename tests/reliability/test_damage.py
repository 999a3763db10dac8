"""Files that are not what was written are never taken for the state."""

import shutil

import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.training.checkpoint import Checkpoints


def flip(path, position, bit):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def newest(saved):
    return saved / "checkpoints" / "2"


def outcome(saved, make_state, same):
    """The step of what is restored, which must be a state that was saved."""
    restored = Checkpoints(saved).restore(make_state(0))
    step = int(restored.step)
    assert same(restored, make_state(step))
    return step


def survives_flips(saved, make_state, same, positions_of):
    """Flips one bit at each position of each file; returns flips and those found."""
    flips, found = 0, 0
    for path in files_of(newest(saved)):
        whole = path.read_bytes()
        for position, bit in positions_of(len(whole)):
            flip(path, position, bit)
            found += outcome(saved, make_state, same) == 1
            flips += 1
            path.write_bytes(whole)
    assert outcome(saved, make_state, same) == 2
    return flips, found


def test_a_flipped_bit_anywhere_never_changes_a_state(saved, make_state, same):
    rng = np.random.default_rng(0)

    def spread(size):
        return [
            (int(position), int(rng.integers(8)))
            for position in np.linspace(0, size - 1, 6, dtype=int)[: size or 0]
        ]

    flips, found = survives_flips(saved, make_state, same, spread)
    assert flips >= 40 and found == flips


@pytest.mark.slow
def test_every_eighth_byte_flipped_never_changes_a_state(
    saved, make_state, same, report_figure
):
    flips, found = survives_flips(
        saved,
        make_state,
        same,
        lambda size: [(p, p // 8 % 8) for p in range(size % 8, size, 8)],
    )
    report_figure(f"{flips} bits flipped, {found} found")
    assert found == flips


@pytest.mark.parametrize("harm", ["truncate", "empty", "remove", "garble"])
def test_a_damaged_file_never_changes_a_state(saved, make_state, same, harm):
    def apply(path, whole):
        if harm == "truncate":
            path.write_bytes(whole[: len(whole) // 2])
        elif harm == "empty":
            path.write_bytes(b"")
        elif harm == "remove":
            path.unlink()
        else:
            path.write_bytes(bytes(len(whole)))

    for path in files_of(newest(saved)):
        whole = path.read_bytes()
        apply(path, whole)
        assert outcome(saved, make_state, same) == (1 if whole else 2)
        path.write_bytes(whole)


def test_damage_is_reported_in_one_line_and_set_aside(saved, make_state, same, capsys):
    for name in files_of(newest(saved)):
        if name.parent.name == "d":
            flip(name, name.stat().st_size // 2, 3)
    checkpoints = Checkpoints(saved)
    restored = checkpoints.restore(make_state(0), set_aside=True)
    assert same(restored, make_state(1))
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert "The checkpoint of step 2 in" in told and "set aside as 2.damaged" in told
    assert checkpoints.steps() == [1]
    # The step can be saved again, and damaged again.
    checkpoints.save(make_state(2))
    checkpoints.close()
    (newest(saved) / "checksums.json").write_text("{}")
    Checkpoints(saved).restore(make_state(0), set_aside=True)
    assert "set aside as 2.damaged-2" in capsys.readouterr().out
    names = {path.name for path in (saved / "checkpoints").iterdir()}
    assert names == {"1", "2.damaged", "2.damaged-2"}


def test_a_reader_of_a_run_sets_nothing_aside(saved, make_state, capsys):
    (newest(saved) / "checksums.json").write_text("{}")
    part = {"params": {"backbone": make_state(1).params["backbone"]}}
    restored = Checkpoints(saved).restore(part)
    expected = make_state(1).params["backbone"]["kernel"]
    np.testing.assert_array_equal(restored["params"]["backbone"]["kernel"], expected)
    assert "set aside" not in capsys.readouterr().out
    assert newest(saved).exists()


def test_a_chosen_step_that_is_damaged_is_refused(saved, make_state):
    (newest(saved) / "checksums.json").write_text("{}")
    with pytest.raises(UsageError, match="of step 2 .* is damaged .*; there are 1, 2"):
        Checkpoints(saved).restore(make_state(0), step=2)


def test_without_an_intact_checkpoint_every_attempt_fails(saved, make_state):
    for step in (1, 2):
        shutil.rmtree(saved / "checkpoints" / str(step) / "arrays")
    for _ in range(2):
        with pytest.raises(UsageError, match="all checkpoints in .* are damaged"):
            Checkpoints(saved).restore(make_state(0), set_aside=True)
    assert Checkpoints(saved).steps() == [1, 2]


def test_leftovers_of_a_killed_save_are_deleted(saved, make_state):
    folder = saved / "checkpoints"
    shutil.copytree(newest(saved), folder / "3.unfinished")  # by earlier versions
    shutil.copytree(newest(saved), folder / "0.deleted")
    for step in ("3", "4"):
        shutil.copytree(newest(saved), folder / step)
        (folder / step / "checksums.json").unlink()
    shutil.copytree(newest(saved), folder / "1.copy")  # by the user
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(make_state(3))
    assert {path.name for path in folder.iterdir()} == {"1.copy", "2", "3"}
