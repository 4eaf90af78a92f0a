"""Photos fetched for real, by the child process, from a server that does everything wrong."""

import collections
import dataclasses
import hashlib
import http.server
import io
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from crawl.fetching.fetch import FetchSettings, by_host, fetch_all, fetch_partition, fetch_partitions, read_rows
from crawl.fetching.target import Target
from crawl.output import Output
from crawl.policy.refusals import REASONS

INTERNET = ("127.0.1.0/24",)
FAST = FetchSettings(
    interval_s=0, timeout_s=1.5, max_bytes=2 * 2**20, retries=0, backoff_s=0.01, allowed_networks=INTERNET
)
HOST = "127.0.1.1"


def photo(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def ignore(stage, photos):
    pass


def target(url, name="Ada", **more):
    return Target(name, url, **more)


def reason_of(row):
    return None if row.rejection is None else row.rejection.reason


@pytest.fixture
def output(tmp_path):
    return Output(str(tmp_path / "out"))


@pytest.fixture
def site(hostile_server):
    """A server on every loopback address."""
    return hostile_server(host="0.0.0.0")


def stored(output):
    """Names and contents of all stored photos."""
    found = {}
    for folder, _, files in os.walk(output.path("photos")):
        for file in files:
            with open(os.path.join(folder, file), "rb") as opened:
                found[file] = opened.read()
    return found


def test_a_photo_is_stored_and_its_row_says_all(site, answers, output):
    content = photo(1)
    headers = [("ETag", '"e1"'), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")]
    there = site.route("/a.jpg", answers.ok(content, headers=headers), host=HOST)
    start = site.route("/start", answers.redirect("/a.jpg"), host=HOST)
    asked = Target("Ada", start, "https://example.org/ada", "CC BY 4.0", "Someone", "Someone, CC BY 4.0")
    settings = dataclasses.replace(FAST, user_agent="Personae/9", contact="https://example.org/bot")
    ticks = []
    (row,) = fetch_partition(HOST, [asked], settings, output, lambda stage, photos: ticks.append((stage, photos)))
    digest = hashlib.sha256(content).hexdigest()
    assert row.target == asked
    assert (row.final_url, row.http_status, row.rejection, row.retry, row.signals) == (there, 200, None, False, ())
    assert (row.sha256, row.num_bytes, row.suffix, row.header_pixels) == (digest, len(content), "jpg", 48)
    assert (row.content_type, row.etag) == ("image/jpeg", '"e1"')
    assert row.last_modified == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert row.user_agent == "Personae/9 (+https://example.org/bot)"
    assert time.time() - 60 < time.mktime(time.strptime(row.fetched_at[:19], "%Y-%m-%dT%H:%M:%S")) < time.time() + 86400
    assert stored(output) == {f"{digest}.jpg": content}
    assert sum(photos for _, photos in ticks) == 1
    assert {stage for stage, _ in ticks} == {"fetch"}
    assert os.listdir(output.path("tables/fetch")) == [hashlib.sha256(HOST.encode()).hexdigest()[:32] + ".parquet"]


def gzip_cut(answers, content):
    import gzip

    return answers.ok(gzip.compress(content)[:15], headers=[("Content-Encoding", "gzip")])


def table(site, answers):
    """path → (answer, reason, value, threshold, detail, retry, status)."""
    good, seconds, most = photo(2), FAST.timeout_s, FAST.max_bytes
    other = f"http://127.0.1.250:{site.port}/a.jpg"
    html = answers.html("<h1>no</h1>" * 9)
    rows = {
        "good": (answers.ok(good), None),
        "good/as-text": (answers.ok(good, "text/plain"), None),
        "good/untyped": (answers.ok(good, None), None),
        "good/chunked-end": (answers.until_close(good), None),
        "good/gzip": (answers.gzipped(good), None),
        "good/five-redirects": (None, None),
        "png": (answers.ok(photo(3, "PNG")), None),
        "webp": (answers.ok(photo(4, "WEBP")), None),
        "404": (answers.status(404), "http_status", 404, None, None, False, 404),
        "403": (answers.status(403), "http_status", 403, None, None, False, 403),
        "410": (answers.status(410), "http_status", 410, None, None, False, 410),
        "451": (answers.status(451, [("X-Robots-Tag", "noai")]), "http_status", 451, None, None, False, 451),
        "204": (answers.status(204), "empty", None, None, None, False, 204),
        "206": (answers.status(206, body=good), "http_status", 206, None, None, False, 206),
        "304": (answers.status(304), "http_status", 304, None, None, False, 304),
        "408": (answers.status(408), "http_status", 408, None, None, True, 408),
        "429": (answers.status(429), "http_status", 429, None, None, True, 429),
        "500": (answers.status(500), "http_status", 500, None, None, True, 500),
        "503": (answers.status(503), "http_status", 503, None, None, True, 503),
        "300": (answers.status(300), "http_status", 300, None, None, False, 300),
        "302-to-nowhere": (answers.status(302), "http_status", 302, None, None, False, 302),
        "silent": (answers.silent(), "timeout", None, seconds, None, True, None),
        "drip-head": (answers.drip_head(), "timeout", None, seconds, None, True, None),
        "drip-body": (answers.drip_body(good), "timeout", None, seconds, None, True, None),
        "stalled": (answers.claims(9999, good), "timeout", None, seconds, None, True, None),
        "huge": (answers.claims(10 * 2**30, good), "too_large", 10 * 2**30, most, None, False, 200),
        "endless": (answers.endless(good), "too_large", None, most, None, False, None),
        "endless-close": (answers.endless(good, chunked=False), "too_large", None, most, None, False, None),
        "bomb": (answers.bomb(32 * 2**20), "too_large", None, most, None, False, None),
        "bomb-br": (answers.bomb(32 * 2**20, "br"), "too_large", None, most, None, False, None),
        "bad-gzip": (
            answers.ok(good, headers=[("Content-Encoding", "gzip")]),
            "encoding",
            None,
            None,
            "BadGzipFile",
            False,
            None,
        ),
        "short": (answers.short(good, 9), "short_body", None, None, None, True, None),
        "cut-chunks": (answers.cut_chunks(good), "short_body", None, None, None, True, None),
        "reset": (answers.reset(), "connection", None, None, "ConnectionLost", True, None),
        "hang-up": (answers.hang_up(), "connection", None, None, "ConnectionDone", True, None),
        "no-http": (answers.raw(b"220 ftp ready\r\n\r\n"), "connection", None, None, "ParseError", True, None),
        "empty": (answers.ok(b""), "empty", None, None, None, False, 200),
        "html": (html, "not_an_image", None, None, "text/html; charset=utf-8", False, 200),
        "html-as-jpeg": (answers.ok(b"<html>" * 9), "not_an_image", None, None, "image/jpeg", False, 200),
        "gif": (answers.ok(photo(5, "GIF"), "image/gif"), "not_an_image", None, None, "image/gif", False, 200),
        "endless-html": (answers.endless(b"<html>" * 9), "not_an_image", None, None, "image/jpeg", False, 200),
        "loop": (answers.redirect("/loop"), "redirect_loop", None, None, None, False, None),
        "six-redirects": (None, "too_many_redirects", 6, 5, None, False, None),
        "to-file": (answers.redirect("file:///etc/hostname"), "bad_url", None, None, None, False, None),
        "to-nonsense": (answers.redirect("http://[::1"), "bad_url", None, None, None, False, None),
        "to-password": (answers.redirect("http://me:it@127.0.1.1/"), "bad_url", None, None, None, False, None),
        "to-private": (answers.redirect("http://10.0.0.1/"), "not_public", None, None, "10.0.0.1", False, None),
        "elsewhere": (answers.redirect(other), "moved", None, None, other, False, None),
        "noai": (
            answers.ok(good, headers=[("X-Robots-Tag", "noai")]),
            "opted_out",
            None,
            None,
            "x-robots-tag: noai",
            False,
            200,
        ),
        "tdm": (
            answers.ok(good, headers=[("TDM-Reservation", "1")]),
            "opted_out",
            None,
            None,
            "tdm-reservation: 1",
            False,
            200,
        ),
    }
    return {name: (*row, *[None] * 5)[:7] for name, row in rows.items()}


def test_every_answer_has_its_exact_reason(site, answers, output):
    expected = table(site, answers)
    urls = {}
    for number, (name, row) in enumerate(expected.items()):
        host = f"127.0.1.{number % 12 + 1}"
        urls[name] = site.url(f"/{name}", host)
        if row[0] is not None:
            site.route(f"/{name}", row[0], host)
    for name, redirects in (("good/five-redirects", 5), ("six-redirects", 6)):
        site.route(f"/end/{name}", answers.ok(photo(6)))
        site.chain(f"/{name}", redirects, f"/end/{name}")
    targets = [target(url) for url in urls.values()]
    fetch_partitions(by_host(targets), dataclasses.replace(FAST, breaker_failures=99), output, ignore)
    rows = {r.target.image_url: r for host, hosts in by_host(targets).items() for r in read_rows(host, hosts, output)}
    told, wanted = {}, {}
    for name, (_, reason, value, threshold, detail, retry, status) in expected.items():
        row = rows[urls[name]]
        said = row.rejection
        wanted[name] = (reason, value, threshold, detail, retry, status) if reason else (None, 200, False)
        told[name] = (
            (said.reason, said.value, said.threshold, said.detail, row.retry, row.http_status)
            if said
            else (None, row.http_status, row.retry)
        )
        assert reason is None or (row.sha256, row.num_bytes) == ("", 0)
    assert told == wanted
    assert {hashlib.sha256(content).hexdigest() for content in stored(output).values()} == {
        row.sha256 for row in rows.values() if row.rejection is None
    }


def test_every_refusal_is_told_while_it_works(site, answers, output):
    urls = [site.route(f"/{n}", answers.ok(photo(n)) if n < 3 else answers.status(404), HOST) for n in range(5)]
    told = collections.Counter()
    fetch_partition(HOST, [target(u) for u in urls], FAST, output, lambda name, count: told.update({name: count}))
    assert told == {"fetch": 5, "fetch: http_status": 2}


def test_robots_txt_is_obeyed_whatever_it_answers(site, answers, output):
    text = answers.text
    deny = "User-agent: *\nDisallow: /\n"
    cases = {
        "none": (answers.status(404), None, None),
        "forbidden": (answers.status(403), None, None),
        "allows": (text("User-agent: *\nDisallow: /private\n"), None, None),
        "denies": (text(deny), "robots_disallowed", None),
        "denies-us": (text("User-agent: Personae\nDisallow: /\n\nUser-agent: *\nAllow: /"), "robots_disallowed", None),
        "denies-another": (text(f"User-agent: otherbot\n{deny.splitlines()[1]}"), None, None),
        "503": (answers.status(503), "robots_unreachable", "http 503"),
        "429": (answers.status(429), "robots_unreachable", "http 429"),
        "reset": (answers.reset(), "robots_unreachable", "connection"),
        "silent": (answers.silent(), "robots_unreachable", "timeout"),
        "loop": (answers.redirect("/robots.txt"), "robots_unreachable", "redirect_loop"),
        "rule-within-500-kib": (text(deny + f"# {'x' * 70}\n" * 9000), "robots_disallowed", None),
        "rule-behind-500-kib": (text(f"# {'x' * 70}\n" * 7300 + deny), None, None),
        "endless": (answers.endless(deny.encode() + b"\n#", b"x" * 9999), "robots_disallowed", None),
    }
    targets, expected = [], {}
    for number, (name, (answer, reason, detail)) in enumerate(cases.items(), 1):
        host = f"127.0.1.{number}"
        site.route("/robots.txt", answer, host)
        targets += [target(site.route(f"/{name}/{n}.jpg", answers.ok(photo(n)), host)) for n in (1, 2)]
        expected[name] = (reason, detail, reason == "robots_unreachable")
    five, six = "127.0.1.100", "127.0.1.101"
    for host, redirects in ((five, 5), (six, 6)):
        site.chain("/robots.txt", redirects, f"/denies/{redirects}")
        for n in range(1, redirects):
            site.route(f"/robots.txt/{n}", site.routes.pop((None, f"/robots.txt/{n}")), host)
        site.route("/robots.txt", site.routes.pop((None, "/robots.txt")), host)
        site.route(f"/denies/{redirects}", text(deny))
        targets.append(target(site.route(f"/{redirects}/1.jpg", answers.ok(photo(1)), host)))
    expected |= {"5": ("robots_disallowed", None, False), "6": ("robots_unreachable", "too_many_redirects", True)}
    rows = list(fetch_all(targets, FAST, output, ignore))
    assert len(rows) == len(targets)
    for row in rows:
        name = row.target.image_url.split("/")[3]
        told = (reason_of(row), row.rejection.detail if row.rejection else None, row.retry)
        assert told == expected[name], (name, told, site.paths())
    denied = [name for name, (reason, *_) in expected.items() if reason]
    assert not [path for path in site.paths() if path.split("/")[1] in denied and path.endswith(".jpg")]
    assert max(collections.Counter(h.host for h in site.hits_of("/robots.txt")).values()) == 1


def test_opt_outs_are_obeyed_and_nothing_of_such_photos_is_stored(site, answers, output):
    def tagged(*values):
        return answers.ok(photo(1) + bytes(2**20), headers=[("X-Robots-Tag", value) for value in values])

    cases = {
        "noai": tagged("noai"),
        "noimageai": tagged("NoImageAI"),
        "noindex": tagged("nofollow, noindex"),
        "noimageindex": tagged("nosnippet", "noimageindex"),
        "noml": tagged("all", "noml"),
        "ours": tagged("personae: noai"),
        "tdm": answers.ok(photo(1), headers=[("TDM-Reservation", "1")]),
    }
    fine = {"other": tagged("otherbot: noai"), "none": tagged("max-image-preview:large")}
    file = '[{"location": "/reserved/*", "tdm-reservation": 1}]'
    site.route("/.well-known/tdmrep.json", answers.json(file), HOST)
    cases["reserved/a"] = answers.ok(photo(7))
    fine["reserved/b"] = answers.ok(photo(8), headers=[("tdm-reservation", "0")])  # the header beats the file
    targets = [target(site.route(f"/{name}", answer, HOST)) for name, answer in (cases | fine).items()]
    rows = fetch_partition(HOST, targets, FAST, output, ignore)
    told = {row.target.image_url.split("/", 3)[3]: (reason_of(row), row.signals, row.retry) for row in rows}
    assert {name: said[0] for name, said in told.items()} == dict.fromkeys(cases, "opted_out") | dict.fromkeys(fine)
    assert told["ours"] == told["noai"] == ("opted_out", ("x-robots-tag: noai",), False)
    assert told["tdm"][1] == ("tdm-reservation: 1",)
    assert told["reserved/a"][1] == ("tdmrep.json",)
    assert len(stored(output)) == 2
    assert len(site.hits_of("/.well-known/tdmrep.json")) == 1


def spellings(port):
    hosts = [
        "127.0.0.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "[::1]",
        "0.0.0.0",
        "[64:ff9b::127.0.0.2]",
        "[2002:7f00:2::]",
        "localhost",
        "127.0.1.1@127.0.0.2",
    ]
    return [f"http://{host}:{port}/secret" for host in hosts] + ["file:///etc/hostname"]


def test_nothing_internal_is_ever_connected_to(site, hostile_server, answers, output):
    secret = hostile_server(host="127.0.0.2", routes={"/secret": answers.ok(photo(1))})
    six = hostile_server(host="::1", port=secret.port, routes={"/secret": answers.ok(photo(1))})
    direct = spellings(secret.port)
    around = [site.route(f"/to/{n}", answers.redirect(url), HOST) for n, url in enumerate(direct)]
    site.route("/robots.txt", answers.redirect(secret.url("/secret")), "127.0.1.2")
    by_robots = site.route("/a.jpg", answers.ok(photo(1)), "127.0.1.2")
    good = site.route("/good.jpg", answers.ok(photo(2)), HOST)
    rows = list(fetch_all(map(target, [*direct, *around, by_robots, good]), FAST, output, ignore))
    reasons = {row.target.image_url: (reason_of(row), row.rejection and row.rejection.detail) for row in rows}
    assert (secret.connections, six.connections) == (0, 0)
    assert reasons.pop(good) == (None, None)
    assert {reason for reason, _ in reasons.values()} == {"not_public", "bad_url"}, {
        u: r for u, r in reasons.items() if r[0] == "robots_unreachable"
    }
    assert reasons[direct[0]] == reasons[around[0]] == ("not_public", "127.0.0.2")
    assert reasons[by_robots][0] == "not_public"
    assert [url for url, (reason, _) in reasons.items() if reason == "bad_url"] == [
        direct[-2],
        direct[-1],
        around[-2],
        around[-1],
    ]
    assert len(stored(output)) == 1


def test_an_own_host_is_exempt_from_the_address_guard_and_from_nothing_else(hostile_server, answers, output):
    own = hostile_server(routes={"/robots.txt": answers.text("User-agent: *\nDisallow: /no")})
    targets = [target(own.route(path, answers.ok(photo(1)))) for path in ("/yes.jpg", "/no.jpg")]
    settings = dataclasses.replace(FAST, own_hosts=(f"127.0.0.1:{own.port}",), allowed_networks=())
    rows = fetch_partition("127.0.0.1", targets, settings, output, ignore)
    assert sorted((r.target.image_url, reason_of(r)) for r in rows) == [
        (targets[1].image_url, "robots_disallowed"),
        (targets[0].image_url, None),
    ]


def test_one_request_at_a_time_and_never_closer_than_the_interval(site, answers, output):
    targets = [
        target(site.route(f"/{n}.jpg", answers.slow(0.03, answers.ok(photo(n))), host))
        for n in range(6)
        for host in ("127.0.1.1", "127.0.1.2")
    ]
    site.route("/3.jpg", answers.reset(), "127.0.1.1")
    site.route("/4.jpg", answers.redirect("/0.jpg"), "127.0.1.1")
    site.route("/robots.txt", answers.text("User-agent: *\nCrawl-delay: 0.3"), "127.0.1.2")
    settings = dataclasses.replace(FAST, interval_s=0.15, retries=1)
    fetch_partitions(by_host(targets), settings, output, ignore)
    for host, interval_s, requests in (("127.0.1.1", 0.15, 11), ("127.0.1.2", 0.3, 8)):
        gaps = site.gaps_s(host)
        assert site.max_concurrency(host) == 1
        assert min(gaps[1:]) >= interval_s  # the first gap is that between robots.txt and what it made slower
        assert gaps[0] >= 0.15
        assert len(gaps) + 1 == requests
    assert site.max_concurrency() == 2, "hosts are asked side by side"


def test_two_processes_keep_apart_though_redirects_cross(site, answers, output, tmp_path):
    """Two workers, two hosts, each redirecting to the other: nobody asks a host that is another's."""
    hosts = ("127.0.1.1", "127.0.1.2")
    targets = []
    for here, there in (hosts, hosts[::-1]):
        for n in range(4):
            site.route(f"/at/{here}/{n}.jpg", answers.ok(photo(n)), here)
            to = site.url(f"/at/{there}/{n}.jpg", there)
            targets.append(target(site.route(f"/from/{here}/{n}.jpg", answers.redirect(to), here)))
    settings = dataclasses.replace(FAST, interval_s=0.1)
    groups = by_host(targets)
    children = [in_process(host, groups[host], settings, output) for host in hosts]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    for host in hosts:
        assert site.max_concurrency(host) == 1
        assert min(site.gaps_s(host)) >= 0.1
    assert {reason_of(row) for host in hosts for row in read_rows(host, groups[host], output)} == {"moved"}
    assert not [path for path in site.paths() if path.startswith("/at/")]
    rows = list(fetch_all(targets, settings, output, ignore))
    assert {reason_of(row) for row in rows} == {None}
    assert {row.final_url.split("/")[2] for row in rows} == {f"{host}:{site.port}" for host in hosts}
    assert all(row.target in targets and row.target.image_url != row.final_url for row in rows)
    assert len([path for path in site.paths() if path.startswith("/from/")]) == 8


def in_process(host, targets, settings, output, code="fetch_partition(host, targets, settings, output, ignore)"):
    """`fetch_partition` in a process of its own."""
    script = f"""
import json, sys
from crawl.fetching.fetch import *
from crawl.output import Output
from crawl.fetching.target import Target
job = json.load(sys.stdin)
host, targets = job["host"], [Target(**t) for t in job["targets"]]
settings, output = FetchSettings.from_record(job["settings"]), Output(job["output"])
ignore = lambda stage, photos: None
{code}
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True)
    job = {
        "host": host,
        "targets": [dataclasses.asdict(t) for t in targets],
        "settings": dataclasses.asdict(settings),
        "output": output.url,
    }
    with process.stdin as pipe:
        json.dump(job, pipe)
    return process


def test_moves_from_host_to_host_end(site, answers, output):
    a, b, c = (f"127.0.1.{n}" for n in (1, 2, 3))
    loop = site.route("/loop", answers.redirect(site.url("/loop", b)), a)
    site.route("/loop", answers.redirect(loop), b)
    far = [f"127.0.1.{n}" for n in range(10, 18)]
    for here, there in itertools.pairwise(far):
        site.route("/far", answers.redirect(site.url("/far", there)), here)
    dead = site.route("/dead", answers.redirect(site.url("/nothing", c)), a)
    targets = [target(loop), target(site.url("/far", far[0])), target(dead)]
    rows = {r.target.image_url: r for r in fetch_all(targets, FAST, output, ignore)}
    assert reason_of(rows[loop]) == "redirect_loop"
    assert rows[targets[1].image_url].rejection.value == 6
    assert reason_of(rows[targets[1].image_url]) == "too_many_redirects"
    assert (reason_of(rows[dead]), rows[dead].http_status) == ("http_status", 404)


@pytest.mark.parametrize("header", ["seconds", "date", "none"])
def test_a_busy_host_is_asked_again_when_it_says(header, site, answers, output):
    then = int(time.time()) + 4
    until = then - time.time() + time.monotonic()
    value = {"seconds": "1", "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(then)), "none": None}
    headers = [] if value[header] is None else [("Retry-After", value[header])]
    busy = answers.status(429 if header == "date" else 503, headers)
    urls = [site.route("/a.jpg", answers.in_turn(busy, answers.ok(photo(1))), HOST)]
    urls += [site.route("/b.jpg", answers.ok(photo(2)), HOST)]
    rows = fetch_partition(HOST, [target(u) for u in urls], dataclasses.replace(FAST, retries=1), output, ignore)
    assert [reason_of(row) for row in rows] == [None, None]
    first, second = site.hits_of("/a.jpg")
    waited_s = second.started_s - first.started_s
    if header == "date":
        assert second.started_s >= until
    assert waited_s >= {"seconds": 1.0, "date": 0.5, "none": 0.005}[header]
    assert waited_s < {"seconds": 1.6, "date": 4.5, "none": 0.5}[header]
    assert site.hits_of("/b.jpg")[0].started_s > second.started_s


def test_a_host_that_asks_for_a_long_pause_or_fails_too_often_is_left_alone_until_the_next_run(site, answers, output):
    pause, broken = "127.0.1.1", "127.0.1.2"
    site.route("/0.jpg", answers.status(503, [("Retry-After", "9000")]), pause)
    for n in range(3):
        site.route(
            f"/{n}.jpg", answers.in_turn(*[answers.hang_up()] * (2 if n == 0 else 1), answers.ok(photo(n))), broken
        )
    targets = [target(site.url(f"/{n}.jpg", host)) for host in (pause, broken) for n in range(8)]
    settings = dataclasses.replace(FAST, breaker_failures=3)
    rows = list(fetch_all(targets, settings, output, ignore))
    by = {host: [r for r in rows if host in r.target.image_url] for host in (pause, broken)}
    assert [reason_of(r) for r in by[pause]] == ["http_status", *["host_unavailable"] * 7]
    assert [reason_of(r) for r in by[broken]] == [*["connection"] * 3, *["host_unavailable"] * 5]
    assert by[pause][1].rejection.detail == "Retry-After: 9000 s"
    assert by[broken][3].rejection.detail == "3 failures in a row"
    assert all(row.retry for row in rows)
    assert len(site.paths(broken)) == 5  # robots.txt, and one more: a kept connection may have been closed
    again = list(fetch_all(targets, settings, output, ignore))
    assert [reason_of(r) for r in again if broken in r.target.image_url][:3] == [None] * 3


def test_we_send_our_name_and_nothing_that_tells_more(site, answers, output):
    cookie = [("Set-Cookie", "id=1; Path=/")]
    urls = [site.route(f"/{n}.jpg", answers.ok(photo(n), headers=cookie), HOST) for n in range(2)]
    urls.append(site.route("/away", answers.redirect("/0.jpg"), HOST))
    fetch_partition(HOST, [target(u) for u in urls], FAST, output, ignore)
    assert len(site.hits) == 6
    for hit in site.hits:
        names = {name.lower() for name, _ in hit.headers}
        assert names <= {"host", "user-agent", "accept", "accept-encoding", "connection"}
        assert hit.header("user-agent") == "Personae/0.1"
        assert hit.header("accept-encoding") == "identity"
        assert hit.method == "GET"
    assert len({hit.connection for hit in site.hits}) == 1, "one connection is kept"


def test_proxies_in_the_environment_are_not_used(site, hostile_server, answers, output, monkeypatch):
    trap = hostile_server(host="127.0.1.9")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, trap.url(""))
    url = site.route("/a.jpg", answers.ok(photo(1)), HOST)
    (row,) = fetch_partition(HOST, [target(url)], FAST, output, ignore)
    assert (row.rejection, trap.connections) == (None, 0)


def test_a_second_call_asks_only_for_what_may_have_changed(site, answers, output):
    routes = {
        "good": answers.ok(photo(1)),
        "404": answers.status(404),
        "noai": answers.ok(photo(2), headers=[("X-Robots-Tag", "noai")]),
        "503": answers.in_turn(answers.status(503), answers.ok(photo(3))),
        "late": answers.in_turn(answers.silent(), answers.ok(photo(4))),
    }
    targets = [target(site.route(f"/{name}", answer, HOST)) for name, answer in routes.items()]
    fetch_partition(HOST, targets, FAST, output, ignore)
    asked = len(site.paths())
    new = target(site.route("/new", answers.ok(photo(5)), HOST))
    rows = fetch_partition(HOST, [*targets, new], FAST, output, ignore)
    assert sorted(site.paths()[asked:]) == ["/.well-known/tdmrep.json", "/503", "/late", "/new", "/robots.txt"]
    told = {row.target.image_url.rsplit("/")[-1]: reason_of(row) for row in rows}
    assert told == {"good": None, "404": "http_status", "noai": "opted_out", "503": None, "late": None, "new": None}
    asked = len(site.paths())
    assert len(fetch_partition(HOST, targets[:1], FAST, output, ignore)) == 1
    assert len(fetch_partition(HOST, [*targets, new], FAST, output, ignore)) == 6
    assert len(site.paths()) == asked, "nothing left to ask for: no child, no request"
    os.unlink(next(output.path(f"photos/{r.sha256[:2]}/{r.sha256}.jpg") for r in rows if reason_of(r) is None))
    fetch_partition(HOST, targets, FAST, output, ignore)
    assert len([path for path in site.paths()[asked:] if path not in ("/robots.txt", "/.well-known/tdmrep.json")]) == 1


def test_an_address_is_asked_once_however_it_is_spelt_and_for_whomever(site, answers, output):
    site.route("/a.jpg", answers.ok(photo(1)), HOST)
    url = site.url("/a.jpg", HOST)
    spelt = [f"{url}?b=2&a=1", f"{url}?a=1&b=2&utm_source=x", f"{url.replace('http', 'HTTP')}?a=1&b=2#top"]
    targets = [target(s, name) for s in spelt for name in ("Ada", "Bob")] + [target(spelt[0], page_url="https://p/")]
    rows = fetch_partition(HOST, targets, FAST, output, ignore)
    assert len([path for path in site.paths() if path.startswith("/a.jpg")]) == 1
    assert {row.target for row in rows} == set(targets)
    assert len({row.sha256 for row in rows}) == 1
    late = target(spelt[1], "Eve")
    rows = fetch_partition(HOST, [*targets, late], FAST, output, ignore)
    assert len(rows) == 8
    assert len([path for path in site.paths() if path.startswith("/a.jpg")]) == 1


def test_known_photos_are_re_checked_with_conditions(site, answers, output):
    changed = answers.in_turn(answers.ok(photo(1), headers=[("ETag", '"1"')]), answers.ok(photo(2)))
    routes = {
        "same": answers.tagged(photo(3), etag='"3"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT"),
        "dated": answers.tagged(photo(4), last_modified="Mon, 01 Jan 2024 00:00:00 GMT"),
        "changed": changed,
        "gone": answers.in_turn(answers.ok(photo(5)), answers.status(404)),
        "down": answers.in_turn(answers.ok(photo(6)), answers.status(503)),
        "opted": answers.in_turn(answers.ok(photo(7)), answers.ok(photo(7), headers=[("X-Robots-Tag", "noml")])),
    }
    targets = [target(site.route(f"/{name}", answer, HOST)) for name, answer in routes.items()]
    before = {r.target.image_url.rsplit("/")[-1]: r for r in fetch_partition(HOST, targets, FAST, output, ignore)}
    assert {reason_of(row) for row in before.values()} == {None}
    asked = len(site.paths())
    fetch_partition(HOST, targets, FAST, output, ignore, refresh_before="2000-01-01T00:00:00+00:00")
    assert len(site.paths()) == asked
    time.sleep(1.1)
    rows = fetch_partition(HOST, targets, FAST, output, ignore, refresh_before="2999-01-01T00:00:00+00:00")
    after = {row.target.image_url.rsplit("/")[-1]: row for row in rows}
    first, second = site.hits_of("/same")
    assert first.header("if-none-match") is None
    assert second.header("if-none-match") == '"3"'
    assert second.header("if-modified-since") == "Mon, 01 Jan 2024 00:00:00 GMT"
    for name in ("same", "dated"):
        assert after[name].fetched_at > before[name].fetched_at
        assert dataclasses.replace(after[name], fetched_at=before[name].fetched_at) == before[name]
    assert after["changed"].sha256 == hashlib.sha256(photo(2)).hexdigest()
    assert (reason_of(after["gone"]), after["gone"].rejection.value) == ("http_status", 404)
    assert after["down"] == before["down"], "a bad day of the host is no reason to lose a photo"
    assert reason_of(after["opted"]) == "opted_out"


def test_time_for_a_host_ends_and_what_is_left_waits_for_the_next_run(site, answers, output):
    targets = [target(site.route(f"/{n}.jpg", answers.ok(photo(n)), HOST)) for n in range(9)]
    settings = dataclasses.replace(FAST, interval_s=0.3, partition_timeout_s=1.5)
    rows = fetch_partition(HOST, targets, settings, output, ignore)
    reasons = [reason_of(row) for row in rows]
    assert 0 < reasons.count(None) < 6
    assert set(reasons) == {None, "partition_timeout"}
    assert {row.retry for row in rows if row.rejection} == {True}
    asked = len(site.paths())
    rows = fetch_partition(HOST, targets, FAST, output, ignore)
    assert {reason_of(row) for row in rows} == {None}
    assert len(site.paths()) == asked + 2 + reasons.count("partition_timeout")


def test_a_process_that_hangs_is_ended_and_its_targets_wait_for_the_next_run(site, answers, output, monkeypatch):
    def hang(to):
        signal_fetchers(signal.SIGSTOP)
        to.finish(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setattr("crawl.fetching.fetch._GRACE_S", 1.5)
    targets = [target(site.route(f"/{n}.jpg", answers.ok(photo(n)), HOST)) for n in range(4)]
    site.route("/2.jpg", hang, HOST)
    settings = dataclasses.replace(FAST, timeout_s=1, partition_timeout_s=1.5)
    rows = fetch_partition(HOST, targets, settings, output, ignore)
    assert [reason_of(row) for row in rows] == [None, None, "partition_timeout", "partition_timeout"]
    assert [row.retry for row in rows] == [False, False, True, True]


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def signal_fetchers(number):
    for pid in children_of(os.getpid()):
        with open(f"/proc/{pid}/cmdline") as file:
            if "crawl.fetching.child" in file.read():
                os.kill(pid, number)


def test_an_answer_that_kills_the_process_costs_one_row(site, answers, output):
    def poison(to):
        signal_fetchers(signal.SIGKILL)
        to.wait(5)

    targets = [
        target(site.route(f"/{n}.jpg", answers.ok(photo(n)), host)) for n in range(4) for host in (HOST, "127.0.1.2")
    ]
    site.route("/1.jpg", poison, HOST)
    fetch_partitions(by_host(targets), FAST, output, ignore)
    rows = [row for host, hosts in by_host(targets).items() for row in read_rows(host, hosts, output)]
    assert len(rows) == 8
    (crashed,) = [row for row in rows if row.rejection is not None]
    assert crashed.target.image_url == site.url("/1.jpg", HOST)
    assert (reason_of(crashed), crashed.rejection.value, crashed.retry) == ("crash", 2, False)
    assert [path for path in site.paths(HOST) if path != "/robots.txt" and "tdm" not in path] == [
        "/0.jpg",
        *["/1.jpg"] * 3,
        "/2.jpg",
        "/3.jpg",
    ]


def test_a_certificate_that_nobody_vouches_for_is_refused(output, tmp_path):
    server = http.server.HTTPServer((HOST, 0), OnePhoto)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"https://{HOST}:{server.server_port}/a.jpg"
    (row,) = fetch_partition(HOST, [target(url)], FAST, output, ignore)
    told = (reason_of(row), row.rejection.detail, row.retry)
    settings = dataclasses.replace(FAST, verify_certificates=False)
    (row,) = fetch_partition(HOST, [target(url)], settings, output, ignore)
    server.shutdown()
    server.server_close()
    assert told == ("robots_unreachable", "tls", True)
    assert row.rejection is None


class OnePhoto(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = photo(1) if self.path == "/a.jpg" else b""
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


def self_signed(folder):
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return str(file)


def test_what_cannot_be_asked_for_has_a_row_too(output):
    urls = [
        "",
        "nonsense",
        "ftp://127.0.1.1/a.jpg",
        "file:///etc/hostname",
        "http://me:it@127.0.1.1/",
        "http://no such/",
    ]
    urls += ["http://unknown.invalid/a.jpg", "http://127.0.1.1:1/a.jpg"]
    rows = list(fetch_all(map(target, urls), FAST, output, ignore))
    told = {row.target.image_url: (reason_of(row), row.retry) for row in rows}
    assert told == {
        **dict.fromkeys(urls[:6], ("bad_url", False)),
        urls[6]: ("dns", True),
        urls[7]: ("robots_unreachable", True),
    }


def test_a_full_or_broken_disk_is_said_with_the_path(site, answers, output):
    url = site.route("/a.jpg", answers.ok(photo(1)), HOST)
    os.makedirs(output.path(""))
    with open(output.path("photos"), "w"):
        pass
    with pytest.raises(OSError, match="Not a directory") as raised:
        fetch_partition(HOST, [target(url)], FAST, output, ignore)
    assert "photos" in raised.value.filename
    os.unlink(output.path("photos"))
    (row,) = fetch_partition(HOST, [target(url)], FAST, output, ignore)
    assert row.rejection is None


def test_memory_stays_small_whatever_is_sent(site, answers, output):
    """The real limits: 32 MiB a photo. The parent is small, so the largest of its children is the fetcher."""
    jpeg = photo(1)
    routes = {
        "endless": answers.endless(jpeg),
        "endless-plain": answers.endless(jpeg, chunked=False),
        "gzip": answers.bomb(2**28),
        "br": answers.bomb(2**28, "br"),
        "robots": answers.ok(jpeg),
    }
    site.route("/robots.txt", answers.endless(b"#"), HOST)
    targets = [target(site.route(f"/{name}", answer, HOST)) for name, answer in routes.items()]
    limits = dataclasses.replace(FAST, max_bytes=FetchSettings().max_bytes, timeout_s=30)
    code = """
import resource
rows = fetch_partition(host, targets, settings, output, ignore)
print(json.dumps([resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
                  [r.rejection and r.rejection.reason for r in rows]]), file=open(output.path("said"), "w"))
"""
    assert in_process(HOST, targets, limits, output, code).wait(timeout=100) == 0
    megabytes, reasons = json.loads(output.read("said"))
    assert reasons == ["too_large"] * 4 + [None]
    assert megabytes < 200


def test_every_reason_is_in_the_table_and_every_row_of_the_table_says_something():
    assert all(text and reason.isidentifier() for reason, text in REASONS.items())
