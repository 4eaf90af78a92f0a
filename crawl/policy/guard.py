"""Connections go to public addresses only: checked on the very address that is then connected to.

`GuardedResolver` stands between Twisted and every connection of the child process, addresses written
as such included; `may_request` turns away early what needs no connection to judge. `own_hosts` are
exempt from this guard and from nothing else. Knows nothing of robots.txt, photos or results.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from crawl.errors import InputError

OWN_HOSTS = "PERSONAE_OWN_HOSTS"
ALLOWED_NETWORKS = "PERSONAE_ALLOWED_NETWORKS"
"""Names of the child's Scrapy settings that the resolver reads."""

Address: TypeAlias = IPv4Address | IPv6Address
Found: TypeAlias = Sequence[tuple[int, int, int, str, tuple[Any, ...]]]
"""What `socket.getaddrinfo` returns."""

_REFUSED_V4 = (
    "0.0.0.0/8",  # this network: connects to this very machine
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "127.0.0.0/8",
    "168.63.129.16/32",  # public by number, yet a cloud's own wire server inside every machine of it
    "169.254.0.0/16",  # link-local, and every cloud's metadata
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
)
_GLOBAL_V6 = "2000::/3"
"""All that is in use of IPv6. Outside lie loopback, link-local, unique local, v4-mapped and NAT64 (64:ff9b::/96)."""
_REFUSED_V6 = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
"""Within it: Teredo and other protocols' own, documentation, 6to4, documentation."""


class NotPublicAddress(Exception):
    """A host resolves, wholly or in part, to an address that is not public. Nothing was connected to."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"{host}: {address} is not a public address")
        self.host = host
        self.address = address


def is_public(address: str, allowed_networks: Sequence[str] = ()) -> bool:
    """Whether an address in its plain spelling lies on the public internet, or in one of `allowed_networks`.

    False for what is no such address. `allowed_networks` (`127.0.0.1/32`) is for tests, whose internet is
    the loopback interface; no configuration file leads to it.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if any(ip in network for network in _networks(tuple(allowed_networks))):
        return True
    if ip.version == 4:
        return not any(ip in network for network in _networks(_REFUSED_V4))
    return ip in ipaddress.ip_network(_GLOBAL_V6) and not any(ip in network for network in _networks(_REFUSED_V6))


def may_request(url: str, own_hosts: Sequence[str] = (), allowed_networks: Sequence[str] = ()) -> bool:
    """Whether a request for the URL, or a redirect to it, may go to the downloader at all.

    False for what is not http or https, has no host or no valid port, carries a user name or password, or
    names an address, however it is spelt, that is not public. A name passes: its addresses are for the
    resolver to judge, when it connects.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or port == 0:
        return False
    if _is_own(host, port or (443 if parts.scheme == "https" else 80), tuple(own_hosts)):
        return True
    return all(is_public(str(found[4][0]), allowed_networks) for found in _written_out(host))


def guarded_settings(own_hosts: Sequence[str], allowed_networks: Sequence[str] = ()) -> dict[str, Any]:
    """Scrapy settings for the child's CrawlerProcess; in a spider's `custom_settings` they do nothing at all.

    They also close the ways around the resolver: proxies, and schemes other than http and https.
    Raises InputError for a wrong own host.
    """
    _own(tuple(own_hosts))
    return {
        "TWISTED_DNS_RESOLVER": "crawl.policy.guard.GuardedResolver",
        "TWISTED_REACTOR_ENABLED": True,
        "DOWNLOAD_HANDLERS": {"data": None, "file": None, "ftp": None, "s3": None},
        "HTTPPROXY_ENABLED": False,
        OWN_HOSTS: list(own_hosts),
        ALLOWED_NETWORKS: list(allowed_networks),
    }


class Crawler(Protocol):
    """What the resolver needs of a CrawlerProcess."""

    settings: Any


@implementer(IHostnameResolver)
class GuardedResolver:
    """Twisted's resolver for the whole child process.

    It is asked for each new connection, with host and port, and hands over only addresses it has checked;
    Twisted connects to those and resolves nothing again, so a name cannot mean one thing to the check and
    another to the connection. One address that is not public refuses the name altogether. Nothing is
    cached. Requests fail with NotPublicAddress, or with Scrapy's CannotResolveHostError.
    """

    def __init__(
        self,
        reactor: Any,
        own_hosts: Sequence[str] = (),
        allowed_networks: Sequence[str] = (),
        getaddrinfo: Callable[..., Found] = socket.getaddrinfo,
    ) -> None:
        _own(tuple(own_hosts))
        self._reactor = reactor
        self._own_hosts = tuple(own_hosts)
        self._allowed_networks = tuple(allowed_networks)
        self._getaddrinfo = getaddrinfo

    @classmethod
    def from_crawler(cls, crawler: Crawler, reactor: Any) -> GuardedResolver:
        settings = crawler.settings
        return cls(reactor, settings.getlist(OWN_HOSTS), settings.getlist(ALLOWED_NETWORKS))

    def install_on_reactor(self) -> None:
        self._reactor.installNameResolver(self)

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[Any]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """See IHostnameResolver. Addresses written out are answered at once, names from a thread."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def tell(found: Found) -> None:
            for address in self._checked(hostName, portNumber, found):
                if addressTypes is None or isinstance(address, tuple(addressTypes)):
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        written_out = _written_out(hostName)
        if written_out:
            tell(written_out)
        else:
            deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._look_up, hostName).addCallback(tell)
        return resolution

    def _look_up(self, host: str) -> Found:
        try:
            return self._getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # no such name; a name that cannot be one
            return ()

    def _checked(self, host: str, port: int, found: Found) -> Iterable[Address]:
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not _is_own(host, port, self._own_hosts):
            for address in addresses:
                if not is_public(address, self._allowed_networks):
                    return [_Refused(NotPublicAddress(host, address))]
        return [IPv6Address("TCP", a, port) if ":" in a else IPv4Address("TCP", a, port) for a in addresses]


class _Refused(IPv4Address):
    """An address that cannot be connected to, because reading its host raises.

    A receiver of resolved addresses can be told of none or of some, never of an error; this is how the
    error reaches the request, and why nothing that forgets to look can connect all the same.
    """

    def __init__(self, error: NotPublicAddress) -> None:
        self._error = error

    @property
    def host(self) -> str:  # type: ignore[override]
        raise self._error


class _Resolution:
    """An IHostResolution that is never cancelled: the request's own timeout ends it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError


def _written_out(host: str) -> Found:
    """The address in `host` when it is one in any spelling the system knows (127.1, 0x7f000001, ::1); no network."""
    try:
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return ()


@lru_cache(maxsize=64)
def _networks(texts: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _is_own(host: str, port: int, own_hosts: tuple[str, ...]) -> bool:
    own = _own(own_hosts)
    return bool(own) and ((host.lower(), None) in own or (host.lower(), port) in own)


@lru_cache(maxsize=64)
def _own(own_hosts: tuple[str, ...]) -> frozenset[tuple[str, int | None]]:
    return frozenset(_host_and_port(entry) for entry in own_hosts)


def _host_and_port(entry: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{entry}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or entry != parts.netloc or re.search(r"[@\s]|:$", entry) or port == 0:
        raise InputError(f"crawl.own_hosts: {entry!r}: expected HOST or HOST:PORT, an IPv6 address in brackets")
    return host, port
