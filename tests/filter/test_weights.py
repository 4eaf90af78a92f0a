"""Weights come from the cache or a download, and only the pinned content is ever used."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
import threading

import pytest

from crawl.errors import InputError
from filter.weights import ModelSpec, cache_folder, fetch_https, packaged, sha256_of, weights_path

CONTENT = bytes(range(256)) * 9000


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.hits.append(self.path)
        body = {
            "/right": CONTENT, "/wrong": CONTENT[:-1] + b"x", "/short": CONTENT[:-9], "/long": CONTENT * 40,
        }.get(self.path)  # fmt: skip
        self.send_response(200 if body else 404)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(body or b""), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                self.server.sent += 1 << 16

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.hits, server.sent = [], 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSONAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


loopback = functools.partial(fetch_https, schemes=("http",))


def never(url):
    raise AssertionError(f"asked for {url}")


def spec(server=None, path="/right"):
    port = server.server_address[1] if server else 9
    return ModelSpec(
        name="toy", file="toy.onnx", sha256=hashlib.sha256(CONTENT).hexdigest(), num_bytes=len(CONTENT),
        licence="MIT", input_size="1", source="here", url=f"http://127.0.0.1:{port}{path}",
    )  # fmt: skip


def test_a_download_is_kept_and_used_again(server, cache):
    path = weights_path(spec(server), loopback)
    assert path == cache / "toy.onnx"
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o444 == 0o444
    assert weights_path(spec(server), never) == path
    assert server.hits == ["/right"]
    assert [p.name for p in cache.iterdir()] == ["toy.onnx"]


@pytest.mark.parametrize(
    ("path", "said"),
    [("/wrong", "received"), ("/short", "bytes"), ("/long", "more than"), ("/absent", "404")],
)
def test_a_bad_download_leaves_nothing(server, cache, path, said):
    asked = spec(server, path)
    with pytest.raises(InputError) as error:
        weights_path(asked, loopback)
    message = str(error.value)
    assert said in message
    assert asked.url in message
    assert str(cache / "toy.onnx") in message
    assert "\n" not in message
    assert list(cache.iterdir()) == []


def test_a_wrong_hash_is_told_with_both_hashes(server, cache):
    with pytest.raises(InputError) as error:
        weights_path(spec(server, "/wrong"), loopback)
    assert spec().sha256 in str(error.value)
    assert hashlib.sha256(CONTENT[:-1] + b"x").hexdigest() in str(error.value)


def test_an_endless_body_is_not_read_to_its_end(server, cache):
    with pytest.raises(InputError, match="more than"):
        weights_path(spec(server, "/long"), loopback)
    assert server.sent < 8 * len(CONTENT)


def test_no_server_is_one_line_with_the_address_and_the_place_by_hand(cache):
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9/right.*put the file at .*toy\.onnx"):
        weights_path(spec(), loopback)


@pytest.mark.parametrize("found", [CONTENT[:-1] + b"x", CONTENT[:100], b""])
def test_a_file_of_other_content_is_neither_used_nor_replaced(cache, found):
    cache.mkdir()
    (cache / "toy.onnx").write_bytes(found)
    with pytest.raises(InputError) as error:
        weights_path(spec(), never)
    assert str(cache / "toy.onnx") in str(error.value)
    assert spec().sha256 in str(error.value)
    assert (cache / "toy.onnx").read_bytes() == found


def test_a_file_that_changes_is_checked_again(cache):
    cache.mkdir()
    (cache / "toy.onnx").write_bytes(CONTENT)
    weights_path(spec(), never)
    (cache / "toy.onnx").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(InputError):
        weights_path(spec(), never)


def test_a_file_is_hashed_once_a_process(cache, monkeypatch):
    cache.mkdir()
    (cache / "toy.onnx").write_bytes(CONTENT)
    weights_path(spec(), never)
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a) or io.BytesIO(CONTENT))
    weights_path(spec(), never)
    sha256_of(cache / "toy.onnx")
    assert opened == []


def test_a_cache_that_cannot_be_written_is_read_only_too(server, cache):
    cache.mkdir()
    (cache / "toy.onnx").write_bytes(CONTENT)
    cache.chmod(0o555)
    before = cache.stat().st_mtime_ns
    assert weights_path(spec(server), loopback) == cache / "toy.onnx"
    assert (cache.stat().st_mtime_ns, server.hits) == (before, [])
    cache.chmod(0o755)


def test_a_cache_that_cannot_be_made_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PERSONAE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="Not a directory"):
        weights_path(spec(server), loopback)


def test_two_downloads_at_once_agree(server, cache):
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(weights_path(spec(server), loopback))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [cache / "toy.onnx"] * 4
    assert [p.name for p in cache.iterdir()] == ["toy.onnx"]


def test_only_https_is_fetched():
    for url in ("http://127.0.0.1:9/x", "file:///etc/hostname", "ftp://127.0.0.1/x"):
        with pytest.raises(OSError, match="https only"):
            fetch_https(url)


def test_a_spec_without_an_address_is_only_looked_for(cache):
    with pytest.raises(InputError, match=r"toy\.onnx: toy: no such weight file"):
        weights_path(dataclasses.replace(spec(), url=None), never)


def test_the_cache_is_the_users_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("PERSONAE_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "personae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "personae"


def test_a_package_that_is_not_there_or_lacks_the_file():
    with pytest.raises(InputError, match="pip install no-such-package"):
        packaged("no-such-package", "x.dat")
    with pytest.raises(InputError, match=r"holds no file x\.dat"):
        packaged("numpy", "x.dat")
