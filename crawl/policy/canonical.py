"""One spelling for every address of one photo: the key by which a URL is known to have been seen.

It is a key and nothing else: what is fetched is the address as the source gives it. Two spellings become
one only where they must mean the same; where that is not sure they stay two, and the second copy is found
by its content. Knows nothing of what an address leads to, or whether it may be asked.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import SplitResult, unquote, urlsplit

from crawl.errors import InputError

TRACKING_PREFIXES = ("utm_",)
_CLICKS = ("fbclid", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "msclkid", "yclid", "ysclid", "twclid", "ttclid")
_SHARES = ("igshid", "igsh", "li_fat_id", "epik", "rb_clickid", "srsltid", "_openstat", "_ga", "_gl")
_MAILS = ("mc_cid", "mc_eid", "mkt_tok", "_hsenc", "_hsmi", "__hstc", "__hssc", "__hsfp", "vero_id", "oly_anon_id")
TRACKING = frozenset((*_CLICKS, *_SHARES, *_MAILS, "oly_enc_id"))
"""Query parameters that say who followed a link, never what it leads to; names without regard to case.

What may choose a photo on some site is kept: `ref`, `source`, `id`, `s`, `v`, signatures, dates.
"""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = r"A-Za-z0-9._~\-"
_KEPT_IN_PATH = f"{_UNRESERVED}!$&'()*+,;=:@/"
_KEPT_IN_QUERY = f"{_KEPT_IN_PATH}?"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_BRACKETS = re.compile(r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\](:[0-9]*)?")
_MAX_HOST = 253


class BadUrl(InputError):
    """An address that nobody can fetch. `reason`: `not_http`, or `bad_url`."""

    def __init__(self, url: str, reason: str, why: str) -> None:
        super().__init__(f"{url[:200]!a}: {why}")
        self.reason = reason


def canonical(url: str) -> str:
    """The one spelling. `canonical(canonical(url)) == canonical(url)`.

    Scheme and host in lower case, host in ASCII, no default port, no fragment, percent-encoding and dot
    segments as RFC 3986 section 6.2.2 has them, no TRACKING parameters. Parameters are in order of their
    names, those of one name in the order given; a query with a part that is no `name=value` keeps its order.
    Raises BadUrl for what is not http or https, names no host, holds a password or a control character.
    """
    parts, port = _split(url)
    host = _host(parts.hostname or "", url)
    place = host if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    query = _query(parts.query)
    return f"{parts.scheme}://{place}{_path(parts.path)}{'?' if query else ''}{query}"


def _split(url: str) -> tuple[SplitResult, int | None]:
    text = url.strip(" ")
    if _CONTROL.search(text):
        raise BadUrl(url, "bad_url", "holds a control character")
    try:
        text.encode()
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadUrl(url, "bad_url", "not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadUrl(url, "not_http", "not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise BadUrl("", "bad_url", "a URL that holds a user name or password")
    if ("[" in parts.netloc or "]" in parts.netloc) and not _BRACKETS.fullmatch(parts.netloc):
        raise BadUrl(url, "bad_url", "no IPv6 address in its brackets")
    return parts, port


def _host(name: str, url: str) -> str:
    """In lower case and ASCII. `ß` and such stay themselves, as in IDNA 2008: another host, not `ss`."""
    if ":" in name:
        try:
            return f"[{ipaddress.IPv6Address(name).compressed}]"
        except ValueError:
            raise BadUrl(url, "bad_url", "no such IPv6 address") from None
    text = unicodedata.normalize("NFKC", name).lower().replace("\u3002", ".").removesuffix(".")
    host = ".".join(label if label.isascii() else _punycode(label) for label in text.split("."))
    if not _HOST.fullmatch(host) or len(host) > _MAX_HOST:
        raise BadUrl(url, "bad_url", "names no host")
    return host


def _punycode(label: str) -> str:
    return "xn--" + label.encode("punycode").decode("ascii")


def _path(path: str) -> str:
    kept: list[str] = []
    segments = _encoded(path, _KEPT_IN_PATH).split("/")[1:] or [""]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _query(query: str) -> str:
    parts = [part for part in _encoded(query, _KEPT_IN_QUERY).split("&") if part and not _tracks(part)]
    if all(part.find("=") > 0 for part in parts):
        parts.sort(key=lambda part: part.partition("=")[0])
    return "&".join(parts)


def _tracks(part: str) -> bool:
    name, equals, _ = part.partition("=")
    name = unquote(name).lower()
    return bool(equals) and (name in TRACKING or name.startswith(TRACKING_PREFIXES))


def _encoded(text: str, kept: str) -> str:
    """RFC 3986: what need not be encoded is not, what must be is, in upper case."""
    return re.sub(f"%[0-9A-Fa-f]{{2}}|[^{kept}]", _encode, text)


def _encode(match: re.Match[str]) -> str:
    text = match[0]
    if len(text) == 3:
        character = chr(int(text[1:], 16))
        return character if re.fullmatch(f"[{_UNRESERVED}]", character) else text.upper()
    return "".join(f"%{byte:02X}" for byte in text.encode())
