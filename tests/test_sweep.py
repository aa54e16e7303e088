import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conftest import seeds
from effml import NUMERICS, Recipe, grid, load_arrays, load_runs, run, sweep, warm_up
from effml.recipe import Record
from effml.results import RecordWriter
from effml.sweeping import executors, pending, server
from soak import kills

QUICK = Recipe(model="mlp", data="phantom-chest", epochs=1)


def test_grid_is_every_combination_last_axis_fastest():
    recipes = grid(QUICK, model=["lenet5", "mlp"], seed=range(3))
    assert [(r.model, r.seed) for r in recipes] == [
        (m, s) for m in ("lenet5", "mlp") for s in range(3)
    ]
    assert grid(QUICK) == [QUICK]
    with pytest.raises(ValueError, match=r"give model=\['mlp'\]"):
        grid(QUICK, model="mlp")
    with pytest.raises(ValueError, match="Choose from"):
        grid(QUICK, modle=["mlp"])


def test_a_fresh_process_gives_what_run_gives_here(tmp_path):
    here, there = run(QUICK), sweep([QUICK], tmp_path).iloc[0]
    for name in (
        "test_auroc",
        "test_accuracy",
        "val_auroc",
        "macs",
        "data_sha256",
        "status",
        "device",
        "precision_used",
    ):
        assert there[name] == here[name], name
    arrays = load_arrays(tmp_path, there.run_id)
    assert arrays["test_probabilities"].shape == (there.test_n, 2)
    assert np.allclose(arrays["test_probabilities"].sum(1), 1)
    assert arrays["val_score"][int(there.best_epoch) - 1] == there.val_auroc
    assert there.train_energy_low_j <= there.train_energy_j <= there.train_energy_high_j
    assert there.train_peak_memory_bytes > 5e7


def test_failures_are_records_with_the_reason_and_the_sweep_goes_on(tmp_path):
    cases = {
        "memory": QUICK.but(size=30000),
        "diverges": QUICK.but(learning_rate=1e30),
        "data": QUICK.but(data="no-such"),
        "weights": QUICK.but(weights="no-such"),
        "fp16": QUICK.but(precision="fp16"),
        "fine": QUICK,
    }
    table = sweep(cases.values(), tmp_path).set_index(np.array(list(cases)))
    assert table.status.to_dict() == {
        "memory": "out of memory",
        "diverges": "diverged",
        "data": "data unavailable",
        "weights": "weights unavailable",
        "fp16": "unsupported",
        "fine": "ok",
    }
    for name, words in (
        ("diverges", "Lower learning_rate"),
        ("fp16", "slower"),
        ("data", "EFFML_DATA"),
    ):
        assert words in table.reason[name]
    again = pending(cases.values(), tmp_path)
    assert {r.id for r in again} == {
        cases["data"].id,
        cases["weights"].id,
    }  # what may be there next time


def test_done_means_same_recipe_data_device_and_numerics(tmp_path, monkeypatch):
    sweep([QUICK, QUICK], tmp_path)
    assert len(load_runs(tmp_path)) == 1 and pending([QUICK], tmp_path) == []
    assert pending([QUICK], tmp_path, device="cuda") == [QUICK]
    assert pending([QUICK], tmp_path / "else") == [QUICK]
    before = sorted(tmp_path.iterdir())
    assert sweep([QUICK, QUICK], tmp_path).status.tolist() == ["ok", "ok"]
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.setattr("effml.sweeping.plan.NUMERICS", NUMERICS + 1)
    assert pending([QUICK], tmp_path) == [QUICK]
    monkeypatch.setattr("effml.sweeping.plan.NUMERICS", NUMERICS)
    monkeypatch.setattr("effml.sweeping.plan._sha256", lambda recipe: "other data")
    assert pending([QUICK], tmp_path) == [QUICK]


def test_the_row_of_this_data_and_device_is_returned_whatever_else_the_store_holds(tmp_path):
    good = sweep([QUICK], tmp_path).iloc[0]
    with RecordWriter(tmp_path) as writer:
        for status, device, sha in (
            ("data unavailable", "cpu", None),
            ("ok", "cuda", good.data_sha256),
            ("ok", "cpu", "other"),
        ):
            writer.append(
                Record(
                    QUICK,
                    run_id="x",
                    status=status,
                    device=device,
                    data_sha256=sha,
                    numerics=NUMERICS,
                    finished_utc="2999",
                    test_auroc=0.1,
                )
            )
    assert sweep([QUICK], tmp_path).run_id[0] == good.run_id


def test_a_store_that_cannot_be_written_to_costs_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr("effml.sweeping.plan.os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="Give another folder"):
        sweep([QUICK], tmp_path)


def test_weights_of_an_earlier_run_carry_its_cost(tmp_path):
    assert "keep_weights" in sweep([*sweep_ids(tmp_path)], tmp_path).reason[0]
    parent = sweep([QUICK], tmp_path, keep_weights=True).iloc[0]
    child = sweep([QUICK.but(weights=parent.recipe_id, seed=1)], tmp_path, keep_weights=True).iloc[
        0
    ]
    grandchild = sweep([QUICK.but(weights=child.recipe_id, seed=2)], tmp_path).iloc[0]
    assert child.lineage_energy_j == pytest.approx(parent.train_energy_j)
    assert grandchild.lineage_seconds == pytest.approx(parent.train_seconds + child.train_seconds)
    assert grandchild.val_auroc > parent.val_auroc  # it goes on learning


def sweep_ids(store):
    """A recipe that starts from a run whose weights were not kept."""
    yield QUICK.but(weights=sweep([QUICK], store).recipe_id[0], seed=9)


def test_threads_are_set_and_recorded(tmp_path):
    assert sweep([QUICK.but(threads=1)], tmp_path).threads_used[0] == 1


def test_an_executor_is_anything_with_submit(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        table = sweep(grid(QUICK, seed=range(4)), tmp_path, executor=pool, in_flight=2)
    assert table.seed.tolist() == [0, 1, 2, 3] and (table.status == "ok").all()


def test_a_lost_worker_is_a_record(tmp_path):
    class Lossy:
        def submit(self, function, job):
            return ThreadPoolExecutor(1).submit(lambda: 1 / 0)

    row = sweep([QUICK], tmp_path, executor=Lossy()).iloc[0]
    assert row.status == "failed" and "ZeroDivisionError" in row.reason


SCRIPT = """
import effml
table = effml.sweep([effml.Recipe(model="mlp", epochs=1)], {store!r}, device="cpu")
print(table.status[0])
"""


def test_a_script_without_a_main_guard(tmp_path):
    (tmp_path / "s.py").write_text(SCRIPT.format(store=str(tmp_path / "store")))
    done = subprocess.run([sys.executable, "s.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr


DASK = """
import distributed, effml

if __name__ == "__main__":
    how = dict(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None)
    with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
        recipe = effml.Recipe(model="mlp", epochs=1)
        print(client.submit(effml.sweep, [recipe], {a!r}, device="cpu").result().status[0])
        print(effml.sweep([recipe], {b!r}, executor=client, device="cpu").status[0])
"""


def test_inside_a_dask_worker_and_with_dask_as_the_executor(tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="distributed is not installed (pip install 'effml[cluster]')"
    )
    code = DASK.format(a=str(tmp_path / "a"), b=str(tmp_path / "b"))
    assert distributed and (tmp_path / "d.py").write_text(code)
    done = subprocess.run([sys.executable, "d.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "ok\nok\n", done.stderr[-3000:]


@pytest.mark.skipif(not executors.FORKS, reason="there is no fork on this system")
@pytest.mark.parametrize("case", kills.CASES)
def test_kill_9_at_random_moments_loses_nothing_that_was_finished(case, tmp_path):
    case(tmp_path / "s", False, len(seeds(2, 12)), random.Random(0))


@pytest.mark.skipif(not executors.FORKS, reason="there is no fork on this system")
def test_a_killed_sweep_leaves_no_process_behind(tmp_path):
    slow = "effml.Recipe(model='resnet18', epochs=1000)"
    script = f"import effml; effml.sweep([{slow}], {str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)

    def below(pid):
        children = [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
        return children + [g for c in children for g in below(c)]

    end = time.monotonic() + 60
    try:
        while len(family := below(process.pid)) < 2 and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        process.kill(), process.wait()
    assert len(family) >= 2  # the server, the run, and for a moment git
    while any(os.path.exists(f"/proc/{pid}") for pid in family) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in family)


@pytest.mark.skipif(not executors.FORKS, reason="there is no fork on this system")
def test_the_first_run_takes_the_process_that_was_warmed_up(tmp_path, monkeypatch):
    answer = 'import sys\nfor line in sys.stdin: print(\'{"status": "ok"}\', flush=True)'
    monkeypatch.setattr(executors, "SERVER", [sys.executable, "-c", answer])
    monkeypatch.setattr(executors, "_idle", [])
    warm_up(), warm_up()
    [early] = executors._idle
    assert (
        os.getpgid(early._process.pid) != os.getpgrp()
    )  # a Jupyter kernel that shuts down leaves other groups alone
    assert sweep([QUICK], tmp_path).status.tolist() == ["ok"] and executors._idle == [early]
    executors.close_servers()
    assert early._process.poll() is not None


@pytest.mark.skipif(not executors.FORKS, reason="there is no fork on this system")
def test_a_run_killed_by_the_system_is_a_record(monkeypatch):
    job = {"recipe": QUICK.to_dict()}
    reading, writing = os.pipe()  # stands for a standard input that stays open
    monkeypatch.setattr(
        server.select,
        "select",
        lambda r, w, x, t, real=server.select.select: real([r[0], reading], w, x, t),
    )
    monkeypatch.setattr(server, "_done", lambda job: os.kill(os.getpid(), signal.SIGKILL))
    answer = server._forked(job)
    assert answer["status"] == "failed" and "signal 9" in answer["reason"]
    assert "If memory ran out" in answer["reason"]
    monkeypatch.setattr(server, "_done", lambda job: os._exit(3))
    assert "exit status 3" in server._forked(job)["reason"]
    os.close(reading), os.close(writing)


def test_where_there_is_no_fork_each_run_gets_a_new_python(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "FORKS", False)
    monkeypatch.setattr(executors, "_idle", [])
    assert sweep([QUICK], tmp_path).status.tolist() == ["ok"] and executors._idle == []
    monkeypatch.setattr(executors, "SERVER", [sys.executable, "-c", "raise SystemExit(3)"])
    row = sweep([QUICK.but(seed=1)], tmp_path).iloc[0]
    assert row.status == "failed" and "exit status 3" in row.reason


def test_a_strategy_that_only_the_asker_has_is_told_and_asked_again(tmp_path, monkeypatch):
    from effml import SELECTORS

    monkeypatch.setitem(SELECTORS, "mine", SELECTORS["random"])
    recipe = QUICK.but(selection="mine", train_fraction=0.5)
    assert run(recipe).status == "ok"
    row = sweep([recipe], tmp_path).iloc[0]
    assert row.status == "not built" and "Unknown selection 'mine'" in row.reason
    assert "effml.run" in row.reason and pending([recipe], tmp_path) == [recipe]


def test_where_there_is_no_fork_threads_sleep_beside_a_busy_program(monkeypatch):
    from types import SimpleNamespace

    assert not executors.FORKS or executors._waits() == {}  # the fork decides itself
    monkeypatch.setattr(executors, "FORKS", False)
    passive = {"OMP_WAIT_POLICY": "passive"}
    for others, expected in ((0.4, passive), (0.1, {}), (float("nan"), {})):
        cost = contextlib.nullcontext(SimpleNamespace(others_cpu=others))
        monkeypatch.setattr(executors, "measure", lambda cost=cost: cost)
        assert executors._waits() == expected


def dots_on_disk(file):
    """An .npz learned at once but for some wrong labels, for which importance sampling goes."""
    from test_training import dots

    arrays = {}
    for name in ("train", "val", "test"):
        split = getattr(dots(), name)
        arrays |= {
            f"{name}_images": split.images[:, 0].numpy(),
            f"{name}_labels": split.labels.numpy(),
        }
    arrays["train_labels"][::29] ^= 1
    np.savez(file, **arrays)
    return str(file)


def test_a_sweep_goes_on_with_an_interrupted_run_as_if_there_had_been_none(
    tmp_path, monkeypatch, capfd
):
    from effml.training.checkpoints import Checkpoint

    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    data = dots_on_disk(tmp_path / "dots.npz")
    plain = Recipe(data=data, model="mlp", epochs=4, batch_size=24, learning_rate=0.01, threads=1)
    recipe, save = plain.but(sampler="importance", augment="flip"), Checkpoint.save

    def interrupted(self, epoch):
        save(self, epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, store=tmp_path / "a")
    both = [recipe, recipe.but(seed=1)]
    resumed, whole = sweep(both, tmp_path / "a"), sweep(both[:1], tmp_path / "b")
    assert resumed.status.tolist() == ["ok", "ok"], resumed.reason.tolist()
    assert resumed.resumed_epoch.tolist() == [2, 0] and whole.resumed_epoch.tolist() == [0]
    assert np.isnan(resumed.train_seconds[0]) and "training time unknown" in capfd.readouterr().err
    ours, theirs = (
        load_arrays(tmp_path / name, runs.run_id[0])
        for name, runs in (("a", resumed), ("b", whole))
    )
    assert ours.pop("epoch_seconds").shape == theirs.pop("epoch_seconds").shape  # time differs
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs) and len(ours) > 4
    assert resumed.importance_steps[0] == whole.importance_steps[0] > 0
    left = [p.name for p in (tmp_path / "a").iterdir() if p.suffix not in (".jsonl", ".npz")]
    assert left == []  # no checkpoint, no lock, no half-written file


def test_only_what_effml_refuses_is_final():
    """A fault in a line of effml, in numpy, or in the user's own code may be gone next time."""
    from effml.experiment import failure

    def caught(text, filename):
        try:
            exec(compile(text, filename, "exec"), {"np": np})
        except Exception as error:
            return error

    ours, theirs = str(failure.PACKAGE / "models.py"), "/somewhere/mine.py"
    for text, filename, status in (
        ("raise ValueError('Choose from: a, b')", ours, "unsupported"),
        (
            "try:\n  int('x')\nexcept ValueError as e:\n  raise ValueError('no') from e",
            ours,
            "unsupported",
        ),
        ("raise ValueError('x')", theirs, "failed"),
        ("int('x')", ours, "failed"),
        ("a, b = [1]", ours, "failed"),
        ("raise ValueError(f'{int(chr(120))}')", ours, "failed"),
        ("np.zeros(2).reshape(3)", ours, "failed"),
        ("try:\n  int('x')\nexcept ValueError:\n  raise", ours, "failed"),
        ("raise NotImplementedError", theirs, "failed"),
        ("raise NotImplementedError", ours, "failed"),
        ("raise MemoryError", theirs, "out of memory"),
        ("raise OSError(12, 'Cannot allocate memory')", theirs, "out of memory"),
        ("raise RuntimeError('CUDA out of memory.')", theirs, "out of memory"),
        ("raise ValueError('the class is named out of memory')", theirs, "failed"),
    ):
        assert failure.status_of(caught(text, filename)) == status, text


def test_an_internal_error_is_a_failure_with_its_traceback_and_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr("effml.experiment.assess.count", lambda *_: np.zeros(2).reshape(3))
    record = run(QUICK)
    assert record.status == "failed" and record.reason.startswith("ValueError: cannot reshape")
    assert "Traceback" in record.reason and "in assess" in record.reason
    assert str(Path.cwd()) not in record.reason and os.path.expanduser("~") not in record.reason
    with RecordWriter(tmp_path) as writer:
        writer.append(record)
    assert pending([QUICK], tmp_path) == [QUICK]


def test_a_weights_file_that_was_overwritten_is_another_start(tmp_path):
    from effml.models import build_model, weights_bytes

    file, store = tmp_path / "mine.safetensors", tmp_path / "store"
    file.write_bytes(weights_bytes(build_model("mlp", seed=1)))
    recipe = QUICK.but(weights=str(file), epochs=0)
    first = sweep([recipe], store).iloc[0]
    assert first.status == "ok" and pending([recipe], store) == []
    assert first.lineage_seconds is None  # a file does not say what it cost
    file.write_bytes(weights_bytes(build_model("mlp", seed=2)))
    assert pending([recipe], store) == [recipe]
    second = sweep([recipe], store).iloc[0]
    assert second.run_id != first.run_id and second.weights_sha256 != first.weights_sha256
    assert len(load_runs(store)) == 2 and pending([recipe], store) == []
    file.unlink()  # nothing contradicts the records
    assert pending([recipe], store) == []


def test_weights_that_a_run_left_and_that_have_changed_are_not_its_weights(tmp_path):
    first, other = QUICK, QUICK.but(seed=1)
    runs = sweep([first, other], tmp_path, keep_weights=True)
    assert runs.kept_sha256.nunique() == 2
    child = first.but(weights=first.id, epochs=0)
    ours, theirs = (tmp_path / f"{run_id}.safetensors" for run_id in runs.run_id)
    ours.write_bytes(theirs.read_bytes())
    refused = sweep([child], tmp_path).iloc[0]
    assert refused.status == "weights unavailable" and "have changed since" in refused.reason
    assert pending([first, other], tmp_path, keep_weights=True) == [first]
    sweep([first], tmp_path, keep_weights=True)
    assert sweep([child], tmp_path).iloc[0].status == "ok"


def test_another_machine_is_done_and_this_one_is_shown(tmp_path):
    from effml.machine import cpu
    from effml.sweeping import plan

    name, flags = cpu()
    about = dict(status="ok", device="cpu", data_sha256=plan._sha256(QUICK), numerics=NUMERICS)
    with RecordWriter(tmp_path) as writer:
        for where, cpu_flags, finished in ((name, flags, "2020"), ("fast server", "amx", "2999")):
            writer.append(
                Record(
                    QUICK.but(threads=1),
                    run_id=where,
                    device_name=where,
                    cpu_flags=cpu_flags,
                    threads_used=1,
                    finished_utc=finished,
                    **about,
                )
            )
        writer.append(Record(QUICK.but(seed=5), run_id="s5", device_name="fast server", **about))
    asked = [QUICK.but(threads=1), QUICK.but(seed=5)]
    assert pending(asked, tmp_path, device="cpu") == []
    assert sweep(asked, tmp_path, device="cpu").run_id.tolist() == [name, "s5"]
    assert len(load_runs(tmp_path)) == 3
