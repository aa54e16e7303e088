"""What an import says and does about the copies among its pictures."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.data.dataset import SPLITS
from effml.importing.copies import Pair, Thumbprints, ends_of, find_copies, sets_of
from effml.importing.words import counted

if TYPE_CHECKING:
    import pandas as pd

ACTIONS = ("report", "group", "drop")
KINDS = ("exact", "turned", "near")  # "possible" is none of them: no action touches it
LISTED = 1000  # pairs that a report names; all are counted


@dataclass(frozen=True)
class Copies:
    """What was found among the rows of an import, and what can be done about it."""

    rows: "pd.DataFrame"  # N rows with file and, where there are any, label and group
    pairs: list[Pair]
    doubts: list[Pair]  # those of kind "possible", which no action touches
    clash: np.ndarray  # bool, of each of `pairs`: different labels

    @classmethod
    def among(cls, rows: "pd.DataFrame", prints: Thumbprints, masks: np.ndarray | None) -> "Copies":
        """Search `rows`, whose index counts the rows of `prints` and `masks` (M, S, S). Labels
        differ where the column label does, or the masks of two exact copies."""
        index = rows.index.to_numpy()
        found = find_copies(prints.take(index))
        pairs = [pair for pair in found if pair.kind in KINDS]
        doubts = [pair for pair in found if pair.kind not in KINDS]
        clash = _differ(pairs, rows)
        if masks is not None:
            for k, (a, b) in enumerate(index[ends_of(pairs)]):
                clash[k] |= pairs[k].kind == "exact" and not np.array_equal(masks[a], masks[b])
        return cls(rows=rows, pairs=pairs, doubts=doubts, clash=clash)

    def surplus(self, given: np.ndarray | None = None) -> dict[int, dict[str, str]]:
        """What to leave out, so that the first of each set stays: {row: its entry in refused}.

        First is by name; of a `given` split (N,) test comes before val before train, since others
        test on the same images. Where labels differ within a set, all of it goes.
        """
        number, names = sets_of(self.pairs, np.arange(len(self.rows))), self.rows.file.to_numpy()
        ends, first, out = ends_of(self.pairs), {}, {}
        doubtful = {*number[ends[self.clash, 0]].tolist()}
        rank = np.zeros(len(names)) if given is None else -given
        for row in sorted({*ends.ravel().tolist()}, key=lambda row: (rank[row], names[row])):
            one = first.setdefault(number[row], row)
            if number[row] in doubtful:
                out[row] = {"file": names[row], "reason": "a copy of it has another label"}
            elif row != one:
                out[row] = {"file": names[row], "reason": "a copy", "copy_of": names[one]}
        return out

    def apart(self, side: np.ndarray) -> np.ndarray:
        """Which pairs are on different sides; `side` (N,) is -1 for a row that was left out."""
        a, b = side[ends_of(self.pairs)].T
        return (a >= 0) & (b >= 0) & (a != b)

    def counts(self, side: np.ndarray) -> dict[str, int]:
        """Pairs by kind, with different labels, on different sides, and possible ones."""
        kinds = {kind: sum(pair.kind == kind for pair in self.pairs) for kind in KINDS}
        kinds |= {"label_conflicts": int(self.clash.sum())}
        return kinds | {"across_sides": int(self.apart(side).sum()), "possible": len(self.doubts)}

    def report(self, side: np.ndarray) -> dict[str, list[dict[str, Any]]]:
        """Sure and possible pairs, LISTED of each: different labels, then different sides first."""
        doubts = replace(self, pairs=self.doubts, clash=_differ(self.doubts, self.rows))
        return {"duplicates": self._listed(side), "possible_duplicates": doubts._listed(side)}

    def _listed(self, side: np.ndarray) -> list[dict[str, Any]]:
        apart, found = self.apart(side), []
        kind = [(*KINDS, "possible").index(pair.kind) for pair in self.pairs]
        for k in np.lexsort((kind, ~apart, ~self.clash))[:LISTED]:
            a, b, kind, turn, alike = self.pairs[k]
            both = self.rows.iloc[[a, b]]
            one = {"files": both.file.tolist(), "kind": kind} | ({"turn": turn} if turn else {})
            one |= {f"{name}s": both[name].tolist() for name in ("label", "group") if name in both}
            one |= {"labels_differ": bool(self.clash[k]), "correlation": round(alike, 4)}
            one["sides"] = ["left out" if s < 0 else SPLITS[s] for s in side[[a, b]]]
            found.append(one)
        return found

    def said(self, which: np.ndarray, verb: str = "", where: str = "", most: int = 3) -> str:
        """How many these pairs are, and the files of the first, for a sentence."""
        names = self.rows.file.to_numpy()
        some = [f"{names[a]} and {names[b]}" for a, b in ends_of(self.pairs)[which][:most]]
        some += ["…"] * (int(which.sum()) > most)
        return f"{counted(int(which.sum()), 'pair of copies', verb)}{where} ({', '.join(some)})"

    def notes(self, side: np.ndarray, action: str) -> list[str]:
        """What a user must know: different labels first, then different sides, then the rest.
        `side` (N,) is where the rows are."""
        clash, apart, drop, notes = self.clash, self.apart(side), action == "drop", []
        same = ~clash & ~apart & ((side[ends_of(self.pairs)] >= 0).all(1) | drop)
        if clash.any():
            done = "mend the table, or leave all of them out by --copies drop"
            done = "all of them and their copies were left out" if drop else done
            notes.append(f"{self.said(clash, 'have', ' different labels')}: {done}.")
        if apart.any():
            done = "test figures would be too good. --copies group puts them on one side, "
            done += "--copies drop keeps one of each"
            where = self.said(apart, "are", " on different sides of the split")
            notes.append(f"{where}: {done}.")
        if same.any():
            done = {"group": "they share a side", "report": "--copies drop keeps one of each"}
            done["drop"] = "left out, but for one of each set whose labels agree, in test if it can"
            said = self.said(same, where="" if drop else " on one side")
            notes.append(f"{said}: {done[action]}.")
        if notes:
            notes[-1] += " All are in the report, under duplicates."
        if self.doubts:
            labels = f"{_differ(self.doubts, self.rows).sum()} with different labels"
            many = f"{counted(len(self.doubts), 'pair', 'are')} alike and may be copies or not"
            done = "neither grouped nor left out: see possible_duplicates in the report"
            notes.append(f"{many} ({labels}), {done}.")
        return notes


def _differ(pairs: list[Pair], rows: "pd.DataFrame") -> np.ndarray:
    """Which pairs have different labels in the column label, bool (P,)."""
    label = rows.label.to_numpy(str) if "label" in rows else np.zeros(len(rows))
    a, b = label[ends_of(pairs)].T
    return a != b
