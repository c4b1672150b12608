"""Which networks are worth having: those that no other one beats on both counts."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the points that no other dominates, by rising cost.

    A point dominates another if it costs no more and is worth no less, and is better in one of
    the two. Equal points do not dominate each other.
    """
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -values[index], index))
    front: list[int] = []
    for index in order:
        last = front[-1] if front else None
        if last is None or values[index] > values[last] or _same(costs, values, index, last):
            front.append(index)
    return front


def _same(costs: Sequence[float], values: Sequence[float], one: int, other: int) -> bool:
    return costs[one] == costs[other] and values[one] == values[other]
