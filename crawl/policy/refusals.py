"""Every reason why a photo on the network could not be had, and which of them pass by themselves.

Knows nothing of how any of it is found out.
"""

from __future__ import annotations

from crawl.photo import Rejection

MAX_REDIRECTS = 5

REASONS = {
    "bad_url": "no http or https URL, no such host name, or one that holds a password",
    "not_public": "the host is not on the public internet; detail: the address. Nothing was connected to",
    "robots_disallowed": "robots.txt says no",
    "robots_unreachable": "robots.txt could not be had, so nobody knows what is allowed; detail: why",
    "opted_out": "kept out of datasets by its answer or tdmrep.json; detail: the signal, of a copy also where",
    "taken_down": "its address, its person or its bytes were taken down from this dataset; nothing else is kept of it",
    "moved": "redirected to a host that another task asks; detail: the URL there",
    "redirect_loop": "redirected in a circle",
    "too_many_redirects": "value: redirects; threshold: 5",
    "http_status": "value: the status. 408, 425, 429 and 5xx pass, others do not",
    "timeout": "the answer was not complete in time; threshold: `timeout_s`",
    "connection": "refused, reset, or no HTTP; detail: what happened",
    "dns": "no such host name, or no answer from the name server",
    "tls": "no encrypted connection, or a certificate that is not the host's; detail: what happened",
    "short_body": "the connection ended before the body did",
    "too_large": "value: bytes announced, where known; threshold: `max_bytes`, also after decompression",
    "encoding": "a Content-Encoding that cannot be undone",
    "empty": "no bytes",
    "not_an_image": "not JPEG, PNG, WebP or AVIF by its first bytes; detail: the Content-Type",
    "host_unavailable": "not asked: the host failed too often in a row, or asked to be left alone; detail: which",
    "partition_timeout": "not asked: time for this host was up; threshold: `partition_timeout_s`",
    "crash": "value: how often it killed the process that fetched it",
    "error": "a fault of the downloader that nobody foresaw; detail: its type",
}
"""Why a target has no photo, and what that means."""

RETRIED = frozenset(
    {
        "robots_unreachable",
        "timeout",
        "connection",
        "dns",
        "tls",
        "short_body",
        "host_unavailable",
        "partition_timeout",
        "error",
    }
)
"""Reasons for which the next run tries again, besides some of `http_status`."""

_PASSING_STATUS = (408, 425, 429)


def refusal(
    reason: str, value: float | None = None, threshold: float | None = None, detail: str | None = None
) -> Rejection:
    """A Rejection for one of REASONS."""
    assert reason in REASONS, reason
    return Rejection("crawl", reason, value, threshold, detail)


def may_pass(rejection: Rejection) -> bool:
    """Whether the next run may have more luck."""
    if rejection.reason == "http_status":
        return status_may_pass(int(rejection.value or 0))
    return rejection.reason in RETRIED


def status_may_pass(status: int) -> bool:
    return status in _PASSING_STATUS or status >= 500
