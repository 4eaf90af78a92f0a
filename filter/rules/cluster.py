"""The default rule: find the people in a name's photos, and keep the photos of the one seen most.

People are modes of the faces' density on the sphere: from the face with the most neighbours a centre
grows by mean shift, at most one face a photo, until the photos that fit it no longer change. Whether
the first of them dominates enough is told by the tally; the caller draws the line.
"""

from __future__ import annotations

import numpy as np

from filter.rules.group import (
    NO_FACE,
    OUT,
    Choice,
    Decision,
    Floats,
    Group,
    Limits,
    Mask,
    Rows,
    Tally,
    cosine_blocks,
    nobody,
    rows_of,
)

_MAX_PEOPLE = 8
_MAX_STEPS = 20


def cluster(group: Group, limits: Limits) -> Decision:
    """Choose the photos of the person seen in most; the tally says how clearly."""
    people = _People(group, limits).seen()
    none = nobody(group.photos)
    first, second, *_ = [*people, none, none]
    count = [max(1, len(group.members(first))), len(group.members(second))]
    if not people:
        unknown = np.full(group.photos, np.nan)
        return Decision(none, unknown, unknown, none, Tally(group.distinct_photos, 1, 1))
    fit = group.fit(first)
    best = np.where(first == NO_FACE, group.best_face(fit), first)
    least = limits.least_cosine(group.others(first))[best]
    nearer = np.where(second == NO_FACE, OUT, group.fit(second)[second])
    least = np.where(first == NO_FACE, np.maximum(least, nearer), least)
    return Decision(first, fit[best], least, second, Tally(group.distinct_photos, *count))


class _People:
    """Who is seen in the photos of one name."""

    def __init__(self, group: Group, limits: Limits) -> None:
        self._group, self._limits = group, limits

    def seen(self) -> list[Choice]:
        """Everyone seen in at least two distinct photos, the most seen first."""
        return self._compete(self._part(self._modes()))

    def _modes(self) -> list[Choice]:
        """Grow one person after another, each from the face with the most neighbours left."""
        free = np.ones(len(self._group.leader), dtype=bool)
        modes: list[Choice] = []
        for _ in range(_MAX_PEOPLE):
            neighbours = self._neighbours(free)
            seed = int(np.argmax(neighbours))
            if neighbours[seed] < 2:
                break
            person = self._settle(self._around(seed, free), free)
            free[seed] = False
            free[rows_of(person)] = False
            modes.append(person)
        return self._seen_twice(modes)

    def _neighbours(self, free: Mask) -> Rows:
        """For each free face the number of photos, its own included, with a free face near it."""
        rows = np.flatnonzero(free & self._group.is_leader)
        counts = np.zeros(len(free), dtype=np.intp)
        starts = np.flatnonzero(np.diff(self._group.photo_of[rows], prepend=-1))
        for block, cosines in cosine_blocks(self._group.embeddings[rows]):
            near = cosines >= self._limits.pair_threshold
            counts[rows[block]] = np.logical_or.reduceat(near, starts, axis=1).sum(axis=1)
        return counts

    def _around(self, seed: int, free: Mask) -> Choice:
        cosines = (self._group.embeddings @ self._group.embeddings[seed]).astype(np.float64)
        return self._group.choose(np.where(free, cosines, OUT), self._limits.pair_threshold)

    def _settle(self, person: Choice, free: Mask) -> Choice:
        """Mean shift: the centre of its photos, the photos that fit the centre, and again until both stand."""
        for _ in range(_MAX_STEPS):
            fitting = self._fitting(person, np.where(free, self._group.fit(person), OUT))
            if np.array_equal(fitting, person):
                break
            person = fitting
        return person

    def _fitting(self, person: Choice, fit: Floats) -> Choice:
        return self._group.choose(fit, self._limits.least_cosine(self._group.others(person)))

    def _part(self, people: list[Choice]) -> list[Choice]:
        """Take apart what is two people: halves whose centres are further apart than a photo may be from its own."""
        parted: list[Choice] = []
        for person in people:
            one, two = self._halves(person)
            parted += [one, two] if self._are_two(one, two) else [person]
        return self._seen_twice(parted)

    def _are_two(self, one: Choice, two: Choice) -> bool:
        if min(len(self._group.members(one)), len(self._group.members(two))) < 2:
            return False
        return bool(self._group.centre(one) @ self._group.centre(two) < self._limits.threshold)

    def _halves(self, person: Choice) -> tuple[Choice, Choice]:
        """Two-means from the face that fits least and the one least like it; one half is soon empty for one person."""
        x, rows = self._group.embeddings, rows_of(person)
        odd = x[rows] @ x[rows[np.argmin(self._group.fit(person)[rows])]]
        with_odd = odd > x[rows] @ x[rows[np.argmin(odd)]]
        for _ in range(_MAX_STEPS):
            one, two = person.copy(), person.copy()
            one[person != NO_FACE] = np.where(with_odd, NO_FACE, rows)
            two[person != NO_FACE] = np.where(with_odd, rows, NO_FACE)
            nearer = self._group.fit(two)[rows] > self._group.fit(one)[rows]
            if np.array_equal(nearer, with_odd):
                break
            with_odd = nearer
        return one, two

    def _compete(self, people: list[Choice]) -> list[Choice]:
        """Give each face to the person it fits best, so that a look-alike's photos stay the look-alike's."""
        for _ in range(_MAX_STEPS):
            fits = [self._group.fit(p) for p in people]
            best = np.max(fits, axis=0, initial=OUT)
            fairer = self._seen_twice(
                [self._fitting(p, np.where(f == best, f, OUT)) for f, p in zip(fits, people, strict=True)]
            )
            if len(fairer) == len(people) and all(map(np.array_equal, fairer, people)):
                break
            people = fairer
        return people

    def _seen_twice(self, people: list[Choice]) -> list[Choice]:
        """Without those seen in one photo only, the most seen first; of equals the one of the lower key."""
        seen = [p for p in people if len(self._group.members(p)) >= 2]
        return sorted(seen, key=lambda p: (-len(self._group.members(p)), int(rows_of(p)[0])))
