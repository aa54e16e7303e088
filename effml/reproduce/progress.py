"""How far a collection is: one bar on a terminal, else a line for each notebook that ends."""

import sys
import time
from typing import NamedTuple

from effml.reproduce.execution import Execution
from effml.reproduce.plan import Plan


class Share(NamedTuple):
    """A notebook that runs."""

    predicted: float  # minutes
    minutes: float  # since it began
    runs: int  # done
    planned: int


def whole(share: Share) -> float:
    """The minutes it will take in all: as predicted as long as it shows nothing else, and from a
    quarter of its runs on what these tell."""
    done = min(share.runs / share.planned, 1.0) if share.planned else 0.0
    trust = min(4 * done, 1.0)
    expected = max(share.predicted, 1.1 * share.minutes)
    return (1 - trust) * expected + (trust * share.minutes / done if done else 0)


def minutes_left(
    done: list[tuple[float, float]], running: list[Share], waiting: list[float], at_once: int = 1
) -> float:
    """Minutes until all has ended.

    Args:
        done: Of each notebook that has ended the predicted minutes and those it took.
        running: Those that run.
        waiting: Predicted minutes of those that wait; they are taken to be as far from the truth
            as the others were.
        at_once: How many run at a time.
    """
    took = sum(minutes for _, minutes in done) + sum(map(whole, running))
    expected = sum(one for one, _ in done) + sum(one.predicted for one in running)
    pace = took / expected if expected else 1.0
    left = [max(whole(one) - one.minutes, 0.0) for one in running]
    left += [pace * minutes for minutes in waiting]
    return max([sum(left) / at_once, *left])


class Progress:
    """Shows how far the notebooks `plans` are."""

    def __init__(self, plans: list[Plan], at_once: int) -> None:
        from tqdm import tqdm

        self.plans, self.at_once = plans, at_once
        self.done: list[Plan] = []
        self.begun, self.shown = time.time(), 0.0
        self.bar = tqdm(
            total=1.0,
            bar_format="|{bar:20}| {desc}",
            disable=None,  # no bar where there is no terminal
            file=sys.stdout,
            dynamic_ncols=True,
            leave=False,
        )

    def show(self, running: list[Execution], waiting: list[Plan]) -> None:
        """Draw the bar anew."""
        if self.bar.disable or time.time() < self.shown + 0.5:  # twice a second is enough
            return
        self.shown = time.time()
        minutes, runs = self._left(running, waiting)
        planned = sum(plan.cost["runs"] for plan in self.plans)
        past = (self.shown - self.begun) / 60
        self.bar.n = past / (past + minutes) if minutes else 1.0
        told = f"notebooks {len(self.done)}/{len(self.plans)}"
        told += f" (now {' and '.join(one.plan.name[:2] for one in running)})" if running else ""
        told += f", runs {runs}/{planned:.0f}" if planned else ""
        self.bar.set_description_str(f"{told}, {_told(minutes)} left")

    def ended(self, plan: Plan, running: list[Execution], waiting: list[Plan]) -> None:
        """Tell of a notebook that has ended: aloud where it failed or there is no bar."""
        self.done.append(plan)
        if plan.status == "ok" and not self.bar.disable:
            return
        minutes, _ = self._left(running, waiting)
        first = plan.status.partition("\n")[0]  # an error may say more
        told = f"[{len(self.done)}/{len(self.plans)}] {plan.name} {first}"
        self.bar.write(f"{told} · {plan.minutes:.1f} min · {_told(minutes)} left", sys.stdout)
        sys.stdout.flush()

    def _left(self, running: list[Execution], waiting: list[Plan]) -> tuple[float, int]:
        """Minutes left, and runs done."""
        runs = [int(min(one.runs(), one.plan.cost["runs"])) for one in running]
        shares = [
            Share(one.plan.predicted, one.minutes, n, int(one.plan.cost["runs"]))
            for one, n in zip(running, runs)
        ]
        done = [(plan.predicted, plan.minutes) for plan in self.done]
        left = minutes_left(done, shares, [plan.predicted for plan in waiting], self.at_once)
        return left, sum(runs) + int(sum(plan.cost["runs"] for plan in self.done))


def _told(minutes: float) -> str:
    return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {60 * minutes:.0f} s"
