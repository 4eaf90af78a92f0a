"""When somebody was born, as exactly as is known, and whether that makes them an adult for sure.

A year alone means its last day, a decade its last year: who may be a child is treated as one.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date

ADULT_YEARS = 18
_FORM = re.compile(r"([+-]?)(\d{4,6})(?:-(\d\d)(?:-(\d\d)(T[0-9:.]*Z?)?)?)?")
_DECADE = re.compile(r"(\d{3})[Xx]")


def latest_birth(text: str) -> date:
    """The last day on which somebody born `text` can have been born.

    `1952-03-11`; `1952-03`; `1952`; `195X`, that decade; `1952-03-11T00:00:00Z`, but 1 January in that form is what
    databases write for a year alone, and means the year; years before our era as -0044. Raises ValueError for
    anything else.
    """
    decade = _DECADE.fullmatch(text)
    if decade:
        return date(int(decade[1]) * 10 + 9, 12, 31)
    form = _FORM.fullmatch(text)
    if not form:
        raise ValueError(f"{text!r} is no date of birth")
    sign, year, month, day, time = form[1], int(form[2]), int(form[3] or 0), int(form[4] or 0), form[5]
    if sign == "-" or year == 0:
        return date.min
    if not month or (time and month == day == 1):
        return date(year, 12, 31)
    return date(year, month, day or monthrange(year, month)[1])


def surely_adult(text: str, today: date) -> bool:
    """Whether somebody born `text` is 18 or older on the day `today`, whatever the day of birth."""
    latest = latest_birth(text)
    return (today.year - latest.year, today.month, today.day) >= (ADULT_YEARS, latest.month, latest.day)
