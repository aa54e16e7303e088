import json

import numpy as np
import pytest
from scipy import stats

from effml.claims import VERDICTS, Estimate, ledger, verdicts


def verdict(values, name="medmnist-breast-auroc"):
    return verdicts({name: values}).iloc[0]


def test_three_verdicts_and_none():
    """Theirs 0.901 ± 0.010."""
    assert verdict([0.900, 0.901, 0.902]).verdict == "agrees"
    assert verdict([0.850, 0.851, 0.852]).verdict == "differs"
    assert verdict([0.950, 0.951, 0.952]).verdict == "better than claimed"
    assert verdict([0.880, 0.900, 0.920]).verdict == "inconclusive"
    assert verdict([0.901]).verdict == "inconclusive"
    empty = verdict([])
    assert empty.verdict == "not testable here" and np.isnan(empty.ours)
    assert verdict([0.9, np.nan, 0.902]).seeds == 2
    menu = {"agrees", "better than claimed", "differs", "inconclusive", "not testable here"}
    assert menu == set(VERDICTS)


def test_the_interval_is_students():
    row = verdict([0.90, 0.91, 0.93])
    low, high = stats.t.interval(
        0.95, 2, loc=np.mean([0.90, 0.91, 0.93]), scale=stats.sem([0.90, 0.91, 0.93])
    )
    assert (row.low, row.high) == pytest.approx((low, high))
    assert row.difference == pytest.approx(row.ours - 0.901)


def test_the_ledger_is_whole():
    book = ledger()
    assert book.id.is_unique and book.notna().all().all() and (book.tolerance >= 0).all()
    assert set(book.better) == {"higher", "lower", ""}
    assert set(book.kind) == {"conclusion", "number"}
    assert set(book.relation) <= {"=", ">"} and (book.tolerance[book.relation == "="] > 0).all()
    assert {"medmnist-pneumonia-auroc", "medmnist-breast-accuracy"} <= set(book.id)
    with pytest.raises(ValueError, match="Unknown claim 'x'. Choose from: medmnist"):
        verdicts({"x": []})


def test_an_estimate_brings_its_own_interval():
    assert verdict(Estimate(0.901, 0.895, 0.907)).verdict == "agrees"
    assert verdict(Estimate(0.9, 0.88, 0.92)).verdict == "inconclusive"
    exact = verdict(Estimate(0.850, 0.850, 0.850))
    assert exact.verdict == "differs" and exact.seeds == 0 and exact.ours == exact.low == 0.850
    assert verdict(Estimate(np.nan, np.nan, np.nan)).verdict == "not testable here"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.884, 0.889, "differs"),
        (0.885, 0.892, "inconclusive"),
        (0.893, 0.905, "agrees"),
        (0.893, 0.940, "agrees"),  # who claims 0.901 claims no more than that
        (0.912, 0.940, "better than claimed"),
    ],
)
def test_one_side_may_be_better(low, high, expected):
    """Theirs 0.901 ± 0.010, higher is better; and the mirror, 8-bit moments, where lower is."""
    assert verdict(Estimate((low + high) / 2, low, high)).verdict == expected
    low, high = (0.25 - (x - 0.901) * 3 for x in (high, low))
    mirrored = Estimate((low + high) / 2, low, high)
    assert verdict(mirrored, "eight-bit-adam-bytes").verdict == expected


def test_an_interval_that_ends_on_the_edge_lies_inside():
    bottom, top = 0.901 - 0.010, 0.901 + 0.010
    assert verdict(Estimate(0.901, bottom, top)).verdict == "agrees"
    assert verdict(Estimate(bottom, 0.880, bottom)).verdict == "inconclusive"
    assert verdict(Estimate(0.02, 0.0, 0.04), "pepr-pretrained").verdict == "agrees"


def test_what_would_decide_is_told():
    """Theirs 0.901 ± 0.010; 0.896 has room 0.005 to the lower edge."""
    values = [0.886, 0.896, 0.906]
    row = verdict(values)
    n = int(row.needed.removesuffix(" seeds"))
    sd = np.std(values, ddof=1)
    half = [stats.t.ppf(0.975, m - 1) * sd / m**0.5 for m in (n - 1, n)]
    assert half[1] <= 0.005 < half[0]
    assert verdict(Estimate(0.896, 0.886, 0.906)).needed == "4 times the cases"
    assert verdict([0.9]).needed == "more than one seed"
    assert verdict([0.900, 0.901, 0.902]).needed == "" == verdict([]).needed
    assert verdict([0.890, 0.89200001]).needed == "more than 10000 seeds"
    assert verdict(Estimate(0.891, 0.890, 0.892)).needed == "no number"


def test_conclusions_and_printed_numbers_are_counted_apart(tmp_path):
    from effml.claims import render_claims

    rows = [line.split(" | ") for line in render_claims(tmp_path).splitlines()]
    counts = {row[0].removeprefix("| "): row[-1].removesuffix(" |") for row in rows}
    kinds = ledger()[ledger().paper == "PePR (Selvan 2024)"].kind.value_counts()
    assert counts["PePR (Selvan 2024), conclusions"] == str(kinds["conclusion"])
    assert counts["PePR (Selvan 2024), printed numbers"] == str(kinds["number"])


def test_a_claim_may_be_a_direction():
    for low, high, expected in (
        (0.01, 0.03, "agrees"),
        (-0.03, -0.01, "differs"),
        (-0.01, 0.03, "inconclusive"),
    ):
        row = verdict(Estimate((low + high) / 2, low, high), "pepr-pretrained")
        assert (row.verdict, row.theirs) == (expected, 0)
    assert verdict([0.01, 0.011, 0.012], "pepr-pretrained").verdict == "agrees"


@pytest.mark.parametrize("turned", [False, True])
def test_the_ledger_counts_what_notebooks_reported_and_what_none_did(tmp_path, monkeypatch, turned):
    from effml.claims import ledger, render_claims, reported
    from effml.results import CLAIMS_TYPE

    first, second = ledger().id[:2]
    claim = {"claim": first, "ours": 0.9, "verdict": "differs"}
    for name, verdict in (("10_a", "agrees"), ("20_b", "differs")):
        cells = [{"outputs": [{"data": {CLAIMS_TYPE: [{**claim, "verdict": verdict}]}}]}]
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))
    listed = sorted(tmp_path.iterdir(), reverse=turned)  # a file system has an order of its own
    monkeypatch.setattr("pathlib.Path.glob", lambda folder, pattern: iter(listed))
    table = reported(tmp_path).set_index("claim")
    assert len(table) == len(ledger())
    assert table.verdict[first] == "differs"
    assert table.notebook[first] == "20"
    assert table.verdict[second] == "not reported" and table.ours.isna()[second]
    last = render_claims(tmp_path).strip().splitlines()[-1]
    assert last == f"| all | **0** | **0** | **1** | **0** | **0** | **{len(ledger()) - 1}** |"


def test_seeds_without_a_number_leave_a_word():
    """Theirs 0.901 ± 0.010: three seeds agree, and a fourth diverged."""
    row = verdict([0.900, 0.901, 0.902, np.nan])
    assert row.verdict == "inconclusive" and row.note == "1 of 4 seeds are NaN" and row.seeds == 3
    lost = verdict([np.nan, None])
    assert lost.verdict == "not testable here" and lost.note == "2 of 2 seeds are NaN"
    assert verdict([0.900, 0.901, 0.902]).note == "" == verdict([]).note
    assert verdict(Estimate(np.nan, 0.895, 0.907)).verdict == "not testable here"


def test_a_report_shows_the_note_where_there_is_one(monkeypatch):
    import IPython.display

    from effml.claims import report

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    report({"medmnist-breast-auroc": [0.9, 0.9, np.nan]})
    report({"medmnist-breast-auroc": [0.9, 0.9, 0.9]})
    assert "1 of 3 seeds are NaN" in shown[0]["text/plain"] and "note" not in shown[1]["text/plain"]
    report({"medmnist-breast-auroc": [0.9126, np.nan], "medmnist-pneumonia-auroc": [0.9, 0.9]})
    assert "1 of 2 seeds are NaN" in shown[2]["text/plain"] and " 0.913 " in shown[2]["text/plain"]


def test_a_report_may_say_what_a_sentence_leaves_out(monkeypatch):
    import IPython.display

    from effml.claims import report

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    report({"medmnist-breast-auroc": []}, {"medmnist-breast-auroc": "the seeds", "other": "no"})
    assert "what it leaves out" in shown[0]["text/html"] and "the seeds" in shown[0]["text/html"]


def test_the_printed_ledger_has_a_line_for_each_reported_claim_and_counts_the_rest(
    tmp_path, capsys
):
    from effml.claims import print_ledger
    from effml.results import CLAIMS_TYPE

    first, second = ledger().id[:2]
    told = [{"claim": name, "ours": 0.9, "verdict": "differs"} for name in (first, second)]
    cells = [{"outputs": [{"data": {CLAIMS_TYPE: told}}]}]
    (tmp_path / "10_a.ipynb").write_text(json.dumps({"cells": cells}))
    print_ledger(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[4:6]] == [first, second]
    rest = len(ledger()) - 2
    assert said[-2] == f"{len(ledger())} claims: {rest} not reported, 2 differs"
    assert max(map(len, said)) <= 100
    print_ledger(tmp_path / "none")
    assert len(capsys.readouterr().out.splitlines()) == 3
