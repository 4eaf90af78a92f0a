"""The address guard, in real Scrapy: 127.0.0.1 is "the internet", everything else on loopback is the secret."""

import ipaddress
import json
import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.errors import InputError
from crawl.policy.guard import GuardedResolver, NotPublicAddress, guarded_settings, is_public, may_request

INTERNET = ["127.0.0.1/32"]

CHILD = """
import json, socket, sys
import scrapy
from scrapy.crawler import CrawlerProcess
from crawl.policy.guard import GuardedResolver, NotPublicAddress, guarded_settings

job = json.load(sys.stdin)
outcomes, asked = [], []

def from_table(host, port, **options):  # the name's first answer first, the last for ever
    asked.append(host)
    answers = job["names"].get(host)
    if answers is None:
        raise socket.gaierror("no such name")
    if answers == "no name":
        raise UnicodeError("label too long")
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    family = lambda address: socket.AF_INET6 if ":" in address else socket.AF_INET
    return [(family(a), socket.SOCK_STREAM, 6, "", (a, 0)) for a in answer]

class Resolver(GuardedResolver):
    def __init__(self, *args):
        super().__init__(*args, getaddrinfo=from_table)

class Spider(scrapy.Spider):
    name = "spider"
    custom_settings = job["custom_settings"]

    async def start(self):
        for url in job["urls"]:
            yield scrapy.Request(url, callback=self.answered, errback=self.failed, dont_filter=True,
                                 cb_kwargs={"asked": url})

    def answered(self, response, asked):
        outcomes.append([asked, response.status, response.url])

    def failed(self, failure):
        error = failure.value
        refused = error.address if isinstance(error, NotPublicAddress) else str(error)
        outcomes.append([failure.request.cb_kwargs["asked"], type(error).__name__, refused])

settings = {"LOG_LEVEL": "CRITICAL", "TELNETCONSOLE_ENABLED": False, "RETRY_ENABLED": False, "DOWNLOAD_TIMEOUT": 20,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 1, "DOWNLOAD_DELAY": 0, "REDIRECT_MAX_TIMES": 5}
if job["guard"]:
    settings |= guarded_settings(job["own_hosts"], job["allowed_networks"])
    if job["names"]:
        settings["TWISTED_DNS_RESOLVER"] = Resolver
process = CrawlerProcess(settings)
process.crawl(Spider)
process.start()
print(json.dumps({"outcomes": outcomes, "asked": asked}))
"""


def crawl(urls, *, guard=True, own_hosts=(), names=None, custom_settings=None, allowed=INTERNET, environment=None):
    """[url, status or error, final url or refused address] of each URL, and the names looked up."""
    job = {
        "urls": urls,
        "guard": guard,
        "own_hosts": list(own_hosts),
        "allowed_networks": allowed,
        "names": names or {},
        "custom_settings": custom_settings or {},
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(job),
        env={k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return {url: outcome for url, *outcome in result["outcomes"]}, result["asked"]


def spellings(port):
    """127.0.0.2, ::1 and the machine itself in every spelling that a URL may have, with this port."""
    hosts = [
        "127.0.0.2",
        "2130706434",
        "0x7f000002",
        "017700000002",
        "0177.0.0.2",
        "0x7f.0.0.0x2",
        "127.2",
        "127.0.2",
        "127.0.0.2.",
        "１２７.0.0.2",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[0:0:0:0:0:ffff:7f00:2]",
        "[::127.0.0.2]",
        "[::1]",
        "[::]",
        "0.0.0.0",
        "0",
        "[64:ff9b::127.0.0.2]",
        "[64:ff9b:1::7f00:2]",
        "[2002:7f00:2::]",
        "[2001:0:7f00:2::1]",
    ]
    return [f"http://{host}:{port}/secret" for host in hosts] + [f"https://127.0.0.2:{port}/secret"]


@pytest.fixture
def secret(hostile_server, answers):
    """A server on every loopback address but none that the tests call the internet; (port, connections so far)."""
    v4 = hostile_server(host="0.0.0.0", routes={"/secret": answers.ok(b"secret")})
    v6 = hostile_server(host="::1", routes={"/secret": answers.ok(b"secret")}, port=v4.port)
    return v4.port, lambda: v4.connections + v6.connections


@pytest.fixture
def internet(hostile_server, answers):
    return hostile_server(routes={"/a.jpg": answers.ok(b"photo", headers=[("Connection", "close")])})


def test_no_spelling_of_an_internal_address_is_connected_to(secret, internet):
    port, connections = secret
    urls = spellings(port)
    outcomes, _ = crawl([*urls, internet.url("/a.jpg")])
    assert connections() == 0
    assert outcomes.pop(internet.url("/a.jpg")) == [200, internet.url("/a.jpg")]
    assert len(outcomes) == len(urls)
    refused = {url: address for url, (error, address) in outcomes.items() if error == "NotPublicAddress"}
    assert set(urls) - set(refused) <= {f"http://127.0.0.2.:{port}/secret"}  # no address with some resolvers
    assert refused[f"http://2130706434:{port}/secret"] == "127.0.0.2"
    assert refused[f"http://127.2:{port}/secret"] == "127.0.0.2"
    assert refused[f"http://0:{port}/secret"] == "0.0.0.0"


def test_no_redirect_leads_to_an_internal_address(secret, internet, answers):
    port, connections = secret
    to = {internet.route(f"/to/{n}", answers.redirect(url)): url for n, url in enumerate(spellings(port))}
    files = {internet.route(f"/file/{n}", answers.redirect(url)): url for n, url in enumerate(LOCAL)}
    good = internet.route("/good", answers.redirect(internet.url("/a.jpg")))
    outcomes, _ = crawl([*to, *files, good])
    assert connections() == 0
    assert outcomes[good] == [200, internet.url("/a.jpg")]
    assert {outcomes[url][0] for url in to if "127.0.0.2." not in to[url]} == {"NotPublicAddress"}
    assert {outcomes[url][0] for url in files} <= {"HttpError", "NotSupported"}  # not followed, or not spoken
    assert len(outcomes) == len(to) + len(files) + 1


LOCAL = ["file:///etc/hostname", "file://127.0.0.2/etc/hostname", "ftp://127.0.0.2/", "s3://bucket/key", "data:,secret"]


def test_only_http_and_https_are_spoken():
    outcomes, _ = crawl(LOCAL)
    assert {error for error, _ in outcomes.values()} == {"NotSupported"}
    assert len(outcomes) == len(LOCAL)


def test_the_same_urls_do_reach_the_secret_without_the_guard(secret, internet, answers):
    port, connections = secret
    urls = [url for url in spellings(port) if "[" not in url and "https" not in url]
    to = [internet.route(f"/to/{n}", answers.redirect(url)) for n, url in enumerate(urls[:4])]
    outcomes, _ = crawl([*urls, *to], guard=False)
    reached = [url for url, (status, _) in outcomes.items() if status == 200]
    assert len(reached) >= 9 + len(to)
    assert connections() > 0


def test_a_proxy_in_the_environment_is_not_used(secret, internet):
    port, connections = secret
    proxy = f"http://127.0.0.2:{port}"
    environment = {"http_proxy": proxy, "https_proxy": proxy, "all_proxy": proxy, "HTTP_PROXY": proxy, "no_proxy": ""}
    outcomes, _ = crawl([internet.url("/a.jpg")], environment=environment)
    assert outcomes[internet.url("/a.jpg")][0] == 200
    assert connections() == 0
    crawl([internet.url("/a.jpg")], environment=environment, guard=False)
    assert connections() == 1


def test_importing_the_guard_and_the_policy_chooses_no_reactor_and_loads_no_scrapy():
    code = "import sys, crawl.policy.guard, crawl.policy.signals; "
    code += "print({'twisted.internet.reactor', 'scrapy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr


def test_the_guard_must_be_set_for_the_process_not_for_a_spider(secret):
    """A trap of Scrapy's; should this ever fail, so much the better."""
    port, connections = secret
    settings = {"TWISTED_DNS_RESOLVER": "crawl.policy.guard.GuardedResolver"}
    crawl([f"http://127.0.0.2:{port}/secret"], guard=False, custom_settings=settings)
    assert connections() == 1


def test_names_are_judged_by_all_their_addresses_and_looked_up_once_a_connection(secret, internet):
    port, connections = secret
    names = {
        "good.test": [["127.0.0.1"]],
        "inner.test": [["127.0.0.2"]],
        "metadata.test": [["169.254.169.254"]],
        "mixed.test": [["127.0.0.1", "127.0.0.2"]],
        "mixed6.test": [["127.0.0.1", "::1"]],
        "nat64.test": [["64:ff9b::7f00:2"]],
        "nothing.test": [[]],
        "odd.test": "no name",
    }
    urls = {f"http://{name}:{internet.port if name == 'good.test' else port}/a.jpg": name for name in names}
    outcomes, asked = crawl([*urls, "http://unknown.test/"], names=names)
    assert connections() == 0
    told = {name: outcomes[url] for url, name in urls.items()}
    assert told["good.test"][0] == 200
    assert told["inner.test"] == told["mixed.test"] == ["NotPublicAddress", "127.0.0.2"]
    assert told["metadata.test"] == ["NotPublicAddress", "169.254.169.254"]
    assert told["mixed6.test"] == ["NotPublicAddress", "::1"]
    assert told["nat64.test"] == ["NotPublicAddress", "64:ff9b::7f00:2"]
    unresolved = [told["nothing.test"], told["odd.test"], outcomes["http://unknown.test/"]]
    assert [error for error, _ in unresolved] == ["CannotResolveHostError"] * 3
    assert sorted(asked) == sorted([*names, "unknown.test"])
    assert internet.hits[0].host == f"good.test:{internet.port}"


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(secret, internet):
    """DNS rebinding: public when looked up first, internal ever after."""
    port, connections = secret
    names = {"rebind.test": [["127.0.0.1"], ["127.0.0.2"]], "again.test": [["127.0.0.1"], ["127.0.0.2"]]}
    again = [f"http://again.test:{internet.port}/a.jpg?{n}" for n in range(2)]
    first = f"http://rebind.test:{internet.port}/a.jpg"
    second = f"http://rebind.test:{port}/secret"
    outcomes, asked = crawl([first, *again, second], names=names)
    assert outcomes[first][0] == 200
    assert [outcomes[url] for url in again] == [[200, again[0]], ["NotPublicAddress", "127.0.0.2"]]
    assert outcomes[second] == ["NotPublicAddress", "127.0.0.2"]
    assert sorted(asked) == ["again.test"] * 2 + ["rebind.test"] * 2
    assert connections() == 0


def test_an_own_host_is_reached_on_its_own_port_only(hostile_server, answers):
    own = hostile_server(host="127.0.0.2", routes={"/a.jpg": answers.ok(b"photo")})
    other = hostile_server(host="127.0.0.2", routes={"/a.jpg": answers.ok(b"secret")})
    named = hostile_server(host="127.0.0.3", routes={"/a.jpg": answers.ok(b"photo")})
    six = hostile_server(host="::1", routes={"/a.jpg": answers.ok(b"photo")})
    away = own.route("/away", answers.redirect(other.url("/a.jpg")))
    decimal = f"http://2130706434:{own.port}/a.jpg"
    any_port = [f"http://Photos.test:{named.port}/a.jpg"]
    urls = [own.url("/a.jpg"), other.url("/a.jpg"), away, decimal, *any_port, six.url("/a.jpg")]
    hosts = [f"127.0.0.2:{own.port}", "photos.TEST", f"[::1]:{six.port}"]
    outcomes, _ = crawl(urls, own_hosts=hosts, names={"photos.test": [["127.0.0.3"]]}, allowed=[])
    told = [outcomes[url][0] for url in urls]
    assert told == [200, "NotPublicAddress", "NotPublicAddress", "NotPublicAddress", 200, 200]
    assert other.connections == 0
    assert own.paths() == ["/a.jpg", "/away"]


PUBLIC = """
8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 169.253.255.255 192.0.1.1 198.20.0.1
223.255.255.255 11.0.0.1 126.255.255.255 128.0.0.1 2606:4700::1111 2a00:1450:4001::8a 2400:cb00::1 2001:4860:4860::8888
"""
NOT_PUBLIC = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.255
168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1
198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::808:808
64:ff9b:1::7f00:1 100::1 2001::1 2001:0:7f00:1:: 2001:10::1 2001:20::1 2001:1ff:ffff:: 2001:db8::1
2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%lo fec0::1 ff02::1 4000::1
"""
NO_ADDRESS = [
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "example.org",
    "8.8.8.8:80",
    "[::1]",
    "",
    " ",
    "8.8.8.8 ",
]


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize("address", [*NOT_PUBLIC.split(), *NO_ADDRESS])
def test_what_is_no_public_address(address):
    assert not is_public(address)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_never_more_generous_than_the_standard_library(address):
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


@given(st.ip_addresses(v=4))
def test_an_address_within_an_address_is_never_public(address):
    for text in (f"::{address}", f"::ffff:{address}", f"64:ff9b::{address}"):
        assert not is_public(text)
    packed = ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))
    assert not is_public(str(packed))


def test_tests_may_call_a_network_the_internet():
    assert is_public("127.0.0.1", ("127.0.0.1/32",))
    assert is_public("127.0.1.9", ("10.0.0.0/8", "127.0.1.0/24"))
    assert is_public("::1", ("::1/128",))
    assert not is_public("127.0.0.2", ("127.0.0.1/32",))
    assert not is_public("::ffff:127.0.0.1", ("127.0.0.1/32",))
    assert is_public("8.8.8.8", ("127.0.0.1/32",))


@pytest.mark.parametrize(
    "url",
    ["http://example.org/a.jpg", "https://example.org:8443/a", "HTTP://EXAMPLE.org", "http://8.8.8.8/", "http://[2606:4700::1111]/",
     "http://localhost/", "https://127.0.0.2:8080/a", "http://photos.internal:81/"],
)  # fmt: skip
def test_may_request(url):
    assert may_request(url, ["127.0.0.2:8080", "photos.internal"])


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/a", "data:,a", "gopher://example.org", "//example.org/a", "/a.jpg", "", "http://",
     "http:///a", "http://user@example.org/", "http://user:word@example.org/", "http://example.org:0/", "http://example.org:99999/",
     "http://example.org:x/", "http://[::1", "http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://127.1/",
     "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest", "http://0/", "http://127.0.0.2/",
     "https://127.0.0.2:8081/", "http://2130706434:8080/", "http://[64:ff9b::127.0.0.1]/"],
)  # fmt: skip
def test_may_not_request(url):
    assert not may_request(url, ["127.0.0.2:8080", "photos.internal"])


def test_an_own_host_without_a_port_means_any_and_with_one_that_of_the_scheme():
    assert may_request("http://127.0.0.2:1/", ["127.0.0.2"])
    assert may_request("http://127.0.0.2/", ["127.0.0.2:80"])
    assert may_request("https://127.0.0.2/", ["127.0.0.2:443"])
    assert not may_request("https://127.0.0.2/", ["127.0.0.2:80"])
    assert may_request("http://127.0.0.1/", [], INTERNET)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "http://a.test",
        "a.test/",
        "a.test:",
        "a.test:x",
        "a.test:0",
        "a.test:70000",
        "me@a.test",
        "::1",
        "[::1",
        "a b",
    ],
)
def test_a_wrong_own_host_is_named(host):
    with pytest.raises(InputError, match=r"^crawl\.own_hosts: "):
        guarded_settings([host])
    with pytest.raises(InputError):
        GuardedResolver(None, [host])


def test_the_error_says_what_it_refused():
    error = NotPublicAddress("a.test", "10.0.0.1")
    assert (error.host, error.address, str(error)) == ("a.test", "10.0.0.1", "a.test: 10.0.0.1 is not a public address")


def test_addresses_written_out_never_ask_a_name_server(monkeypatch):
    flags = []

    def spy(*args, **options):
        flags.append(options["flags"])
        return []

    monkeypatch.setattr(socket, "getaddrinfo", spy)
    assert may_request("http://127.0.0.1/")
    assert flags == [socket.AI_NUMERICHOST]
