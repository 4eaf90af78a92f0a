"""`python -m crawl.fetching.child`: the process that holds Scrapy. Started by `fetch` and `session`.

Its first line on stdin is the job; stdin stays open as long as the parent lives, and its end is the end of this
process. It answers with JSON lines on stdout. What it finishes is on disk at once: it may be killed at any
moment. Knows nothing of tables.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import threading
import traceback
from typing import Any, NoReturn

from scrapy.crawler import CrawlerProcess
from twisted.internet.defer import DeferredQueue

from crawl.fetching.downloader import scrapy_settings
from crawl.fetching.jobs import Items, Pages, Photos, Work
from crawl.policy.politeness import FetchSettings

FAILED = 3
"""Exit code after an error that was told."""


class Parent:
    """The way to the parent: stdout, which nothing else may write to."""

    def __init__(self) -> None:
        self._pipe = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def tell(self, record: dict[str, Any], body: bytes = b"") -> None:
        """A JSON line, and a body whose length it says."""
        if body:
            record["num_bytes"] = len(body)
        self._pipe.write(json.dumps(record).encode() + b"\n" + body)
        self._pipe.flush()

    def stop(self, error: BaseException) -> NoReturn:
        """End at once: all that is finished is on disk."""
        if isinstance(error, OSError):
            self.tell({"errno": error.errno, "strerror": error.strerror, "filename": error.filename})
        else:
            traceback.print_exception(error)
            sys.stderr.flush()
        os._exit(FAILED)


def main() -> None:
    """Do one job."""
    parent = Parent()
    job = json.loads(sys.stdin.buffer.readline())
    settings = FetchSettings.from_record(job["settings"])
    process = CrawlerProcess(scrapy_settings(settings, job["hosts_owned"], job["begun_at"]))
    asked: DeferredQueue[dict[str, Any]] = DeferredQueue()
    if job["kind"] == "spider":
        crawler = process.create_crawler(_load(job["spider"]))
        items = Items(crawler, parent.tell)
        process.crawl(crawler, **job["arguments"])
        assert items is not None, "signals hold it weakly"
    elif job["kind"] == "pages":
        process.crawl(Work, work=Pages(job, asked, parent.tell).run, stop=parent.stop)
    else:
        process.crawl(Work, work=Photos(job, settings, parent.tell, parent.stop).run, stop=parent.stop)
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    gc.freeze()  # what Scrapy has loaded stays: the collector need not look at it again and again
    process.start(install_signal_handlers=False)
    sys.stderr.flush()
    os._exit(FAILED if process.bootstrap_failed else 0)  # the listening thread holds stdin


def _listen(asked: DeferredQueue[dict[str, Any]]) -> None:
    """Pass on what the parent says; when it is gone, so are we."""
    from twisted.internet import reactor

    try:
        for line in iter(sys.stdin.buffer.readline, b""):
            reactor.callFromThread(asked.put, json.loads(line))
    finally:
        os._exit(0)


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main()
