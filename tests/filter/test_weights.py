"""Weights come from the cache or a download, and only the pinned content is ever used.

What is not pinned is downloaded by the packages' own functions, here from a server of the test's.
"""

import contextlib
import dataclasses
import functools
import gc
import hashlib
import http.server
import io
import os
import threading
import warnings
import zipfile

import numpy as np
import pytest

from crawl.errors import InputError
from filter.weights import ModelSpec, bring, cache_folder, fetch_https, packaged, sha256_of, weights_path

CONTENT = bytes(range(256)) * 9000


class Server(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        body = self.server.bodies.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        return body

    def do_GET(self):
        self.server.hits.append(self.path)
        if self.path in self.server.silent:
            self.server.released.wait(30)
            return
        body = self.do_HEAD()
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
        server.silent, server.released = set(), threading.Event()
        server.bodies = {
            "/right": CONTENT, "/wrong": CONTENT[:-1] + b"x", "/short": CONTENT[:-9], "/long": CONTENT * 40,
        }  # fmt: skip
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


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


# What packages download themselves


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write(path, content=b"whole"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_what_a_package_brings_is_put_in_place_and_the_rest_thrown_away(cache, capfd):
    def bringer(folder):
        print("chatter")
        assert list(folder.iterdir()) == []
        for name in ("deep/a.onnx", "b.onnx", "pack.zip", "deep/c.onnx"):
            write(folder / name)
        (folder / "b.onnx").chmod(0o600)

    bring((cache / "pack" / "a.onnx", cache / "pack" / "b.onnx"), cache, bringer, "https://x", "")
    assert files_in(cache) == ["pack", "pack/a.onnx", "pack/b.onnx"]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (cache / "pack").iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_file_of_the_users_own_is_left_as_it_is(cache):
    write(cache / "a.onnx", b"mine")
    bring((cache / "a.onnx", cache / "b.onnx"), cache, lambda f: [write(f / "a.onnx"), write(f / "b.onnx")], "x", "")
    assert ((cache / "a.onnx").read_bytes(), (cache / "b.onnx").read_bytes()) == (b"mine", b"whole")


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left"), RuntimeError("Failed\nthere"), ValueError("x" * 900), zipfile.BadZipFile("no zip")],
    ids=lambda e: type(e).__name__,
)
def test_a_download_that_fails_halfway_is_one_line_and_leaves_nothing(cache, error):
    def bringer(folder):
        write(folder / "pack" / "a.onnx", b"hal")
        raise error

    with pytest.raises(InputError, match=r"^https://x: cannot be downloaded: .*; to go on, put it there$") as caught:
        bring((cache / "pack" / "a.onnx",), cache, bringer, "https://x", "put it there")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert files_in(cache) == []


def test_a_fault_of_ours_is_no_failed_download_and_leaves_nothing_either(cache):
    def bringer(folder):
        write(folder / "a.onnx", b"hal")
        raise AssertionError("ours")

    with pytest.raises(AssertionError, match="ours"):
        bring((cache / "a.onnx",), cache, bringer, "x", "")
    assert files_in(cache) == []


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, CONTENT)
    return buffer.getvalue()


@pytest.fixture
def pack_paths(server, cache, tmp_path, monkeypatch):
    """The pack of a name, from the server through insightface's own function."""
    pytest.importorskip("insightface", reason="insightface is not installed: pip install personae[insightface]")
    from insightface.utils import storage

    from filter.backends.insightface import pack_paths

    address = f"http://127.0.0.1:{server.server_address[1]}/"
    monkeypatch.setattr(storage, "MODEL_ZOO_RELEASE_DOWNLOAD_URL", address)
    yield lambda name: pack_paths(name, cache, tmp_path / "root")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # the package leaves the connection of a refused download open


@pytest.mark.parametrize("folder", ["", "buffalo_sc/"])
def test_insightfaces_pack_is_downloaded_once_and_quietly(pack_paths, server, cache, capfd, folder):
    server.bodies["/buffalo_sc.zip"] = zipped(f"{folder}det_500m.onnx", f"{folder}w600k_mbf.onnx", "genderage.onnx")
    paths = cache / "buffalo_sc" / "det_500m.onnx", cache / "buffalo_sc" / "w600k_mbf.onnx"
    assert pack_paths("buffalo_sc") == paths
    assert files_in(cache) == ["buffalo_sc", "buffalo_sc/det_500m.onnx", "buffalo_sc/w600k_mbf.onnx"]
    assert paths[1].read_bytes() == CONTENT
    assert pack_paths("buffalo_sc") == paths
    assert server.hits == ["/buffalo_sc.zip"]
    assert capfd.readouterr() == ("", "")


WHOLE_PACK = zipped("det_500m.onnx", "w600k_mbf.onnx")
DAMAGED_PACK = WHOLE_PACK.replace(CONTENT[:9000], CONTENT[:8999] + b"x", 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "Failed downloading"),
        (b"<!DOCTYPE html><html>Not found</html>", "not a zip file"),
        (WHOLE_PACK[:-100], "not a zip file"),
        (DAMAGED_PACK, "Bad CRC-32"),
        (zipped("det_500m.onnx"), "holds no w600k_mbf.onnx"),
    ],
    ids=["404", "html", "cut", "damaged", "incomplete"],
)
def test_insightfaces_failures_are_one_line_and_leave_nothing(pack_paths, server, cache, tmp_path, capfd, body, said):
    server.bodies["/buffalo_sc.zip"] = body
    with pytest.raises(InputError) as error:
        pack_paths("buffalo_sc")
    message = str(error.value)
    for part in (said, f":{server.server_address[1]}/buffalo_sc.zip: ", f"in {cache}/buffalo_sc or in {tmp_path}/root"):
        assert part in message
    assert "\n" not in message
    assert files_in(cache) == []
    assert not (tmp_path / "root").exists()
    assert capfd.readouterr() == ("", "")


def test_insightfaces_server_that_says_nothing_is_not_waited_for(pack_paths, server, cache, monkeypatch):
    monkeypatch.setattr("filter.backends.insightface.TIMEOUT_S", 0.3)
    server.silent.add("/buffalo_sc.zip")
    with pytest.raises(InputError, match=r"buffalo_sc\.zip: cannot be downloaded: .*[Rr]ead timed out"):
        pack_paths("buffalo_sc")
    assert files_in(cache) == []


@pytest.fixture
def retinaface_path(server, cache, tmp_path, monkeypatch):
    """retina-face's file, from the addresses through its own function."""
    pytest.importorskip("cv2", reason="retina-face is not installed: pip install personae[retina-face]")
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "onnx")
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path / "home"))
    from retinaface.model import retinaface_onnx_model

    from filter.backends.retinaface import weights_path

    def path(*pages):
        urls = [f"http://127.0.0.1:{server.server_address[1]}{page}" for page in pages]
        monkeypatch.setattr(retinaface_onnx_model, "WEIGHTS_URLS", urls)
        return weights_path(cache, tmp_path / "home")

    return path


@pytest.fixture(scope="module")
def network():
    """Bytes of a whole, small ONNX file."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install personae[dev]")
    sizes = [("x", onnx.TensorProto.FLOAT, [9000]), ("y", onnx.TensorProto.FLOAT, [9000])]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "c"], ["y"])],
        "made_in_the_test",
        *([onnx.helper.make_tensor_value_info(*size)] for size in sizes),
        [onnx.numpy_helper.from_array(np.ones(9000, np.float32), "c")],
    )
    imports = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()


def test_retinafaces_weights_are_downloaded_once_and_quietly(retinaface_path, server, cache, tmp_path, capfd, network):
    server.bodies["/backup"] = network
    assert retinaface_path("/absent", "/backup") == cache / "retinaface.onnx"
    assert (cache / "retinaface.onnx").read_bytes() == network
    assert files_in(cache) == ["retinaface.onnx"]
    assert retinaface_path("/absent") == cache / "retinaface.onnx"
    assert server.hits == ["/backup"]
    assert os.environ["DEEPFACE_HOME"] == str(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("body", "said"),
    [(None, "404"), (b"<!DOCTYPE html><html>Not found</html>", "not a whole ONNX file"), (2, "not a whole ONNX file")],
    ids=["404", "html", "cut"],
)
def test_retinafaces_failures_are_one_line_and_leave_nothing(
    retinaface_path, server, cache, tmp_path, capfd, network, body, said
):
    server.bodies["/page"] = network[: len(network) // body] if isinstance(body, int) else body
    with pytest.raises(InputError) as error:
        retinaface_path("/page")
    message = str(error.value)
    for part in (said, f":{server.server_address[1]}/page: ", f"at {cache}/retinaface.onnx or at {tmp_path}/home/.dee"):
        assert part in message
    assert "\n" not in message
    assert files_in(cache) == []
    assert not (tmp_path / "home").exists()
    assert capfd.readouterr() == ("", "")
