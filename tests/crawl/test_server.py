"""The hostile server itself: other tests are only as true as what it does and records."""

import gzip
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
import zlib

import pytest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


def fetch(url, headers=(), timeout=5):
    """(status, headers, body), redirects not followed."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=timeout)
    try:
        connection.request("GET", f"/{path}", headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def say(server, request=b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n", seconds=0.5):
    """What comes back over a raw socket within some time, and how it ended."""
    with socket.create_connection((server.host, server.port), timeout=5) as raw:
        raw.sendall(request)
        raw.settimeout(0.1)
        received, until = b"", time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                piece = raw.recv(1 << 20)
            except TimeoutError:
                continue
            except ConnectionResetError:
                return received, "reset"
            if not piece:
                return received, "closed"
            received += piece
        return received, "open"


def test_what_has_no_route_is_a_404_and_every_hit_is_recorded(hostile_server, answers):
    server = hostile_server(routes={"/a.jpg": answers.ok(b"photo")})
    assert fetch(server.url("/a.jpg?size=1"), {"X-Odd": "1"})[::2] == (200, b"photo")
    assert fetch(server.url("/robots.txt"))[0] == 404
    assert server.paths() == ["/a.jpg?size=1", "/robots.txt"]
    (hit,) = server.hits_of("/a.jpg?size=1")
    assert (hit.method, hit.host, hit.header("x-odd")) == ("GET", f"127.0.0.1:{server.port}", "1")
    assert hit.address == "127.0.0.1"
    assert hit.started_s <= hit.ended_s <= time.monotonic()


def test_a_connection_is_kept_open_for_more(hostile_server, answers):
    server = hostile_server(routes={"/a": answers.ok(b"1"), "/b": answers.tagged(b"2", etag='"x"')})
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    bodies = []
    for path, headers in (("/a", {}), ("/b", {"If-None-Match": '"x"'}), ("/nothing", {}), ("/a", {})):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        bodies.append((answer.status, answer.read()))
    connection.close()
    assert bodies == [(200, b"1"), (304, b""), (404, b"no\n"), (200, b"1")]
    assert {hit.connection for hit in server.hits} == {0}
    assert server.connections == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.7", "127.0.0.2"])
def test_one_server_is_many_hosts(hostile_server, answers, address):
    server = hostile_server(host="0.0.0.0")
    server.route("/a", answers.ok(b"any"))
    server.route("/a", answers.ok(b"seven"), host="127.0.1.7")
    server.route("/a", answers.ok(b"named"), host="a.test")
    expected = b"seven" if address == "127.0.1.7" else b"any"
    assert fetch(server.url("/a", host=address))[2] == expected
    assert fetch(server.url("/a", host=address), {"Host": "a.test:80"})[2] == b"named"
    assert [hit.address for hit in server.hits] == [address] * 2
    assert server.paths("a.test") == ["/a"]
    assert server.paths(address) == ["/a"]


def test_answers_over_ipv6(hostile_server, answers):
    server = hostile_server(host="::1", routes={"/a": answers.ok(b"six")})
    assert fetch(server.url("/a"))[2] == b"six"
    assert server.paths("::1") == ["/a"]


def test_redirects_lead_step_by_step_to_the_end(hostile_server, answers):
    server = hostile_server(routes={"/end": answers.ok(b"here"), "/loop": answers.redirect("/loop", 301)})
    assert urllib.request.urlopen(server.chain("/go", 5, server.url("/end")), timeout=5).read() == b"here"
    assert server.paths() == ["/go", "/go/1", "/go/2", "/go/3", "/go/4", "/end"]
    with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
        urllib.request.urlopen(server.url("/loop"), timeout=5)


def test_validators_make_a_304(hostile_server, answers):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    url = hostile_server(routes={"/a": answers.tagged(b"photo", '"v1"', date)}).url("/a")
    status, headers, body = fetch(url)
    assert (status, headers["ETag"], headers["Last-Modified"], body) == (200, '"v1"', date, b"photo")
    assert fetch(url, {"If-None-Match": '"v1"'})[::2] == (304, b"")
    assert fetch(url, {"If-Modified-Since": date})[::2] == (304, b"")
    assert fetch(url, {"If-None-Match": '"v0"'})[::2] == (200, b"photo")


def test_answers_in_turn_and_the_last_for_ever(hostile_server, answers):
    busy = answers.status(429, [("Retry-After", "2")])
    url = hostile_server(routes={"/a": answers.in_turn(busy, busy, answers.ok(b"photo"))}).url("/a")
    assert [fetch(url)[0] for _ in range(4)] == [429, 429, 200, 200]


def test_pages_and_texts(hostile_server, answers):
    server = hostile_server(
        routes={
            "/page": answers.html("<p>hello", meta={"robots": "noai"}, headers=[("X-Robots-Tag", "noml")]),
            "/robots.txt": answers.text("User-agent: *\nDisallow: /"),
            "/.well-known/tdmrep.json": answers.json("[]"),
        }
    )
    _, headers, body = fetch(server.url("/page"))
    assert (headers["X-Robots-Tag"], headers.get_content_type()) == ("noml", "text/html")
    assert b'<meta name="robots" content="noai">' in body
    assert fetch(server.url("/robots.txt"))[2] == b"User-agent: *\nDisallow: /"
    assert fetch(server.url("/.well-known/tdmrep.json"))[2] == b"[]"


def test_dripped_bodies_are_whole_but_late(hostile_server, answers):
    server = hostile_server(routes={"/x": answers.drip_body(b"0123456789", every_s=0.03)})
    began = time.monotonic()
    assert fetch(server.url("/x"))[2] == b"0123456789"
    assert time.monotonic() - began > 0.25
    assert server.hits[0].ended_s - server.hits[0].started_s > 0.25


@pytest.mark.parametrize(
    ("behaviour", "begins", "ends"),
    [
        (lambda a: a.silent(), b"", "open"),
        (lambda a: a.drip_head(), b"HTTP/1.1 200 OK\r\nX-Slow: zzz", "open"),
        (lambda a: a.claims(10**10, b"abc"), HEAD + b"Content-Length: 10000000000\r\n\r\nabc", "open"),
        (lambda a: a.slow(0.1, a.ok(b"abc")), b"HTTP/1.1 200 OK", "open"),
        (lambda a: a.short(b"abc", missing=2), HEAD + b"Content-Length: 5\r\n\r\nabc", "closed"),
        (lambda a: a.until_close(b"abc"), HEAD + b"\r\nabc", "closed"),
        (lambda a: a.cut_chunks(b"abc"), HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "closed"),
        (lambda a: a.hang_up(), b"", "closed"),
        (lambda a: a.raw(b"SSH-2.0\r\n"), b"SSH-2.0\r\n", "closed"),
        (lambda a: a.reset(), b"", "reset"),
        (lambda a: a.slow(0.05, a.reset(b"HTTP/1.1 200 OK\r\n")), b"", "reset"),
    ],
)  # fmt: skip
def test_each_behaviour_ends_as_it_should(hostile_server, answers, behaviour, begins, ends):
    received, ended = say(hostile_server(routes={"/x": behaviour(answers)}))
    assert received.startswith(begins)
    assert ended == ends


@pytest.mark.parametrize("chunked", [True, False])
def test_an_endless_body_does_not_end(hostile_server, answers, chunked):
    server = hostile_server(routes={"/x": answers.endless(b"\xff\xd8\xff", chunked=chunked)})
    received, ended = say(server)
    assert ended == "open"
    assert len(received) > 1 << 20
    begins = b"3\r\n\xff\xd8\xff\r\n10000\r\n" if chunked else b"\xff\xd8\xff\0"
    assert received.partition(b"\r\n\r\n")[2].startswith(begins)


def test_bombs_are_small_on_the_wire(hostile_server, answers):
    server = hostile_server(routes={"/x": answers.bomb(64 << 20), "/b": answers.bomb(64 << 20, "br")})
    _, headers, body = fetch(server.url("/x"))
    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < 100_000
    assert len(zlib.decompress(body, wbits=31)) == 64 << 20
    brotli = pytest.importorskip("brotli")
    _, headers, body = fetch(server.url("/b"))
    assert headers["Content-Encoding"] == "br"
    assert len(brotli.decompress(body)) == 64 << 20 > len(body) * 1000


def test_a_compressed_photo_is_a_photo(hostile_server, answers):
    _, headers, body = fetch(hostile_server(routes={"/x": answers.gzipped(b"photo")}).url("/x"))
    assert (headers["Content-Encoding"], gzip.decompress(body)) == ("gzip", b"photo")


def test_requests_at_the_same_time_are_counted(hostile_server, answers):
    server = hostile_server(routes={"/x": answers.slow(0.4, answers.ok(b"late"))})
    threads = [threading.Thread(target=fetch, args=(server.url("/x"),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.max_concurrency() == 3
    for _ in range(2):
        fetch(server.url("/x"))
    assert server.max_concurrency() == 3
    assert sorted(server.gaps_s())[-1] > 0.35
    assert len(server.gaps_s()) == 4


def test_one_after_the_other_is_a_concurrency_of_one(hostile_server, answers):
    server = hostile_server(routes={"/x": answers.ok(b"soon")})
    for _ in range(3):
        fetch(server.url("/x"))
    assert server.max_concurrency() == 1


def test_a_connection_that_asks_nothing_is_counted_too(hostile_server):
    server = hostile_server()
    say(server, b"\x16\x03\x01 TLS, perhaps", seconds=0.2)
    assert (server.connections, server.hits) == (1, [])


def test_stops_at_once_whatever_it_is_doing(hostile_server, answers):
    server = hostile_server(routes={"/silent": answers.silent(), "/endless": answers.endless()})
    clients = [socket.create_connection((server.host, server.port), timeout=5) for _ in range(3)]
    for client, path in zip(clients, ("silent", "endless"), strict=False):
        client.sendall(f"GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    while len(server.hits) < 2:
        time.sleep(0.01)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 2
    for client in clients:
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=1)
