"""Two sweeps of one store: by hand, each case a way in which the code could be wrong."""

import pytest

from effml import Recipe
from effml.sweeping import others
from effml.sweeping.others import Claims, lock, unlock

RUN = Recipe(model="mlp")


def claims(store, lacking={RUN.id}):
    return Claims(store, store / "runs-own.jsonl", lambda: {*lacking})


def test_a_run_is_one_sweep_s_until_it_is_freed_and_asked_for_again_after_a_while(
    tmp_path, monkeypatch
):
    now = [100.0]
    monkeypatch.setattr(others.time, "monotonic", lambda: now[0])
    ours, theirs = claims(tmp_path), claims(tmp_path)
    assert ours.take(RUN) is True and theirs.take(RUN) is False
    assert theirs.take(RUN.but(seed=1)) is None  # a store that lacks it not has it
    assert theirs.found == 1 and ours.found == 0
    ours.free(RUN.id), ours.free(RUN.id)
    assert list(tmp_path.iterdir()) == []  # no file stays
    assert theirs.take(RUN) is False  # it is not asked at every turn
    now[0] += others.AGAIN_S + 0.01
    assert theirs.take(RUN) is True
    theirs.__exit__()
    assert list(tmp_path.iterdir()) == []


def test_what_others_recorded_meanwhile_is_not_done_again_and_own_records_are_not_read(tmp_path):
    asked, missing = [], {RUN.id, "other"}

    def lacking():
        asked.append(1)
        return {*missing}

    own = tmp_path / "runs-own.jsonl"
    mine = Claims(tmp_path, own, lacking)
    own.write_text("a record")
    assert mine.take(RUN) is True and len(asked) == 1
    mine.free(RUN.id)
    missing.clear()
    (tmp_path / "runs-others.jsonl").write_text("a record")
    assert mine.take(RUN) is None and len(asked) == 2 and mine.found == 1
    assert mine.take(RUN) is None and len(asked) == 2  # nothing new
    (tmp_path / "runs-others.jsonl").write_text("two records")
    assert mine.take(RUN) is None and len(asked) == 3
    assert not list(tmp_path.glob(".*.lock"))


@pytest.mark.parametrize("error", [OSError, NotImplementedError])
def test_a_disk_without_locks_stops_nobody(tmp_path, monkeypatch, error):
    def none(self):
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", none)
    assert lock(tmp_path / "x") is True and claims(tmp_path).take(RUN) is True
    unlock(True), unlock(False)


def test_another_user_can_open_a_lock_s_file(tmp_path):
    held = lock(tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 and lock(tmp_path / "x") is False
    unlock(held)
    assert not (tmp_path / "x").exists()
