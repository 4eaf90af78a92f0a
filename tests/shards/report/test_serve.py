"""The local site: only this machine, only its own pages, nothing outside the dataset; the same views as the report."""

import http.client
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crawl.errors import InputError
from shards.read import Dataset
from shards.serve import site as site_module
from shards.serve.server import Server

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def server(hostile_dataset):
    with Server(hostile_dataset.url, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def get(server):
    """(target, headers) → (status, headers, body)."""

    def get_one(target, method="GET", **headers):
        connection = http.client.HTTPConnection(*server.server_address, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, response.headers, body

    return get_one


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    elsewhere = socket.socket()
    elsewhere.settimeout(0.5)
    with pytest.raises(OSError, match="refused"):
        elsewhere.connect(("127.0.0.2", server.server_address[1]))
    elsewhere.close()


def test_the_overview_people_and_a_person(get, hostile):
    status, headers, body = get("/")
    assert status == 200
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "What became of every photo" in body.decode()
    status, _, body = get("/people")
    assert status == 200
    assert body.decode().count("<tr>") == 1 + 5
    assert get("/people/-")[2].decode().count('class="photo"') == 1, "the file in nobody's folder"
    assert "&lt;script&gt;alert(&#39;name&#39;)" in body.decode()
    status, _, body = get(f"/people/{hostile.ada}")
    assert body.decode().count('class="photo"') == 10
    assert "≥ 0.400" in body.decode()


def test_crops_come_from_the_shards_as_they_are(get, hostile, hostile_dataset):
    body = get(f"/people/{hostile.ada}")[2].decode()
    crops = re.findall(rf"/people/{hostile.ada}/([0-9a-f]{{32}})/crop\.jpg", body)
    assert len(crops) == 5
    status, headers, picture = get(f"/people/{hostile.ada}/{crops[0]}/crop.jpg")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "image/jpeg", "no-store")
    assert picture == Dataset(hostile_dataset.url).sample(crops[0]).image_jpeg
    (face,) = re.findall(r'src="([^"]+/face\.jpg)"', body)
    assert get(face)[2].startswith(b"\xff\xd8\xff")


def test_filters_by_outcome_score_and_name(get, hostile):
    def photos(query):
        return get(f"/people/{hostile.ada}?{query}")[2].decode().count('class="photo"')

    assert photos("outcome=reason:not_this_person") == 2
    assert photos("outcome=reason:not_this_person&least=0.3") == 1
    assert photos("outcome=group:kept") == 5
    assert photos("outcome=group:not-kept") == 5
    assert photos("least=0.5&most=0.6") == 5, "kept photos' scores are those of the verify table"
    assert photos("least=nonsense") == 10
    names = get("/people?q=ADA%20%3CSCRIPT")[2].decode()
    assert "1 names" in names
    assert get("/people?outcome=reason:no_majority")[2].decode().count("<tr>") == 1 + 1


def test_pages(get, hostile, monkeypatch):
    monkeypatch.setattr(site_module, "PHOTOS_A_PAGE", 4)
    target = f"/people/{hostile.ada}"
    pages = [get(f"{target}?page={n}")[2].decode() for n in (1, 2, 3)]
    keys = [set(re.findall(r"<bdi>([0-9a-f]{32})</bdi>", page)) for page in pages]
    assert [page.count('class="photo"') for page in pages] == [4, 4, 2]
    assert len(set.union(*keys)) == 10
    assert "page 3 of 3" in get(f"{target}?page=99")[2].decode()
    for page in ("0", "-1", "x", "²", "9" * 500):
        assert "page " in get(f"{target}?page={page.encode().hex() if page == '²' else page}")[2].decode()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", "", "[::1]:{port}"],
)
def test_another_name_is_refused(server, get, host):
    """A page that points its own name at 127.0.0.1 sends that name."""
    status, _, body = get("/people", Host=host.format(port=server.server_address[1]))
    assert status == 421
    assert b"127.0.0.1" in body
    assert b"name" not in body


def test_our_names_are_answered(server, get):
    port = server.server_address[1]
    assert get("/", Host=f"localhost:{port}")[0] == get("/", Host=f"LOCALHOST:{port}")[0] == 200


def test_other_sites_may_link_here_but_not_look(get):
    assert get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document")[0] == 200
    assert get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image")[0] == 403
    assert get("/", Sec_Fetch_Site="same-site", Sec_Fetch_Dest="iframe")[0] == 403, "another port of this machine"
    headers = get("/")[1]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "target",
    ["/../ledger.parquet", "/assets/../../../pyproject.toml", "/assets/%2e%2e%2freport.html.j2",
     "/assets/report.html.j2", "/people/..%2f..%2fetc%2fpasswd", "/people/{ada}/../../x",
     "/people/{ada}/" + "0" * 32 + "/crop.jpg",
     "/people/{ada}/" + "0" * 32 + "/whole.jpg", "/ledger.parquet", "/photos/", "//evil.example/", "/people/\x00",
     "/people/%00", "/people/{nobody}/..", "/people?" + "a=1&" * 40],
)  # fmt: skip
def test_nothing_else_is_there(get, hostile, target):
    asked = target.format(ada=hostile.ada, nobody=hostile.nobody)
    if "\x00" in asked:
        with pytest.raises(http.client.InvalidURL):
            get(asked)
    else:
        assert get(asked)[0] == 404


def test_a_hash_of_the_ledger_is_never_a_path(get, hostile):
    body = get(f"/people/{hostile.nobody}")[2].decode()
    assert "the original is not in this folder" in body
    (key,) = re.findall(r"<bdi>([0-9a-f]{32})</bdi>", body)
    assert get(f"/people/{hostile.nobody}/{key}/whole.jpg")[0] == 404


def test_reading_only(get):
    assert get("/", method="POST")[0] == 501
    status, headers, body = get("/", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


def test_many_at_once(get, hostile):
    results = []
    threads = [threading.Thread(target=lambda: results.append(get(f"/people/{hostile.ada}")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 8


def test_wrong_ports_and_folders_are_one_line(server, hostile_dataset, tmp_path):
    with pytest.raises(InputError, match=r"--port: 70000: not between 0 and 65535"):
        Server(hostile_dataset.url, 70000)
    with pytest.raises(InputError, match=r"--port: \d+: Address already in use"):
        Server(hostile_dataset.url, server.server_address[1])
    with pytest.raises(InputError, match="no finished dataset here"):
        Server(str(tmp_path), 0)


@pytest.mark.slow
def test_the_command_says_where_and_ends_at_once(hostile_dataset):
    command = [sys.executable, "-m", "shards", "serve", hostile_dataset.url, "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        assert re.search(r"http://127\.0\.0\.1:\d+/", said), said
        process.send_signal(2)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_in_a_browser(server, open_page, hostile, artefacts):
    from axe_playwright_python.sync_playwright import Axe

    for path in ("", "people", f"people/{hostile.ada}"):
        page = open_page(f"{server.url}{path}")
        for plot in page.query_selector_all(".plot"):
            plot.scroll_into_view_if_needed()
            page.wait_for_function("plot => plot.dataset.drawn === 'true'", arg=plot)
        found = Axe().run(page).response["violations"]
        assert not found, (path, [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found])
        assert all(asked.startswith(server.url) for asked in page.asked)
        assert page.said == []
        page.screenshot(path=artefacts / f"site-{path.split('/')[0] or 'home'}.png", full_page=True)
