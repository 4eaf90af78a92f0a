"""What a person sees while a command works."""

import io

from rich.console import Console

from crawl.command import Bars, in_words


def test_bars_show_hosts_photos_and_refusals_by_reason():
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Bars(screen) as bars:
        bars.expect("hosts", 3)
        bars.expect("fetch", 40)
        for name, count in (("fetch", 9), ("fetch: opted_out", 1), ("fetch: http_status", 2), ("hosts", 1)):
            bars.tick(name, count)
        bars.tick("fetch: http_status", 1)
    shown = screen.file.getvalue()
    assert "1/3" in shown
    assert "9/40" in shown
    assert "3 http_status, 1 opted_out" in shown


def test_nothing_is_drawn_where_nobody_looks():
    log = Console(file=io.StringIO())
    with Bars(log) as bars:
        bars.tick("fetch", 1)
    assert log.file.getvalue() == ""


def test_reasons_in_words():
    assert in_words({"b": 1, "a": 1, "c": 7}) == "7 c, 1 a, 1 b"
