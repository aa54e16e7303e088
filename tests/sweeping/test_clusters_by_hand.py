"""What is asked of Dask and submitit, by stand-ins that note it."""

from argparse import Namespace
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from effml.sweeping import clusters
from effml.sweeping.clusters import executor_of, slurm


class Client:
    def __init__(self, where, **how):
        self.where, self.how, self.closed = where, how, False
        made.append(self)

    def nthreads(self):
        return {} if self.where == "tcp://idle:1" else {"a": 2, "b": 1}

    def close(self):
        self.closed = True

    __enter__ = lambda self: self  # noqa: E731
    __exit__ = lambda self, *error: self.close()  # noqa: E731


class AutoExecutor:
    def __init__(self, folder, cluster):
        self.folder, self.cluster = folder, cluster

    def update_parameters(self, **how):
        self.how = how


made = []
FAKE = SimpleNamespace(Client=Client, LocalCluster=lambda **how: nullcontext(how))
FAKE.AutoExecutor = AutoExecutor


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    made.clear()
    monkeypatch.setattr(clusters, "optional", lambda *names: FAKE)


def asked(tmp_path, **flags):
    with executor_of(Namespace(store=str(tmp_path), **flags)) as how:
        return how


def test_dask_has_as_many_runs_at_a_time_as_threads(tmp_path):
    how = asked(tmp_path, scheduler="tcp://head:1")
    assert how["executor"].where == "tcp://head:1" and how["in_flight"] == 3
    assert how["executor"].how == {"timeout": clusters.ANSWER_S} and how["executor"].closed
    local = asked(tmp_path, workers=1)["executor"].where
    one = ("n_workers", "threads_per_worker", "processes")
    assert [local[name] for name in one] == [1, 1, True]


def test_a_scheduler_without_workers_is_told(tmp_path):
    with pytest.raises(OSError, match="has no workers: `dask worker tcp://idle:1` starts one"):
        asked(tmp_path, scheduler="tcp://idle:1")
    assert made[0].closed


def test_slurm_s_words_and_where_it_prints(tmp_path):
    how = asked(tmp_path, slurm="cluster=local,time=5,memory=4")
    made = how["executor"]
    assert how["in_flight"] == 8 and made.folder == tmp_path / "slurm"
    assert made.how == {"name": "effml", "timeout_min": 5, "mem_gb": 4}
    for words in ("cluster=local,time=5,memory=4GB", "cluster=local,time=5,jobs=x"):
        with pytest.raises(ValueError, match="give a whole number"):
            slurm(words, tmp_path)
