"""HTML from views: templates, the script and style that go with them, and what a page may load.

Everything that a template prints is escaped for where it stands; data in a script element is JSON without `<`, `>`,
`&` and `'`. A page loads nothing: its policy names its own scripts by their hashes. Knows no dataset.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from collections.abc import Iterable
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from crawl.errors import InputError
from shards.report.charts import Chart

if TYPE_CHECKING:
    import jinja2

ASSETS = ("report.css", "report.js", "charts.js")
PLOTLY = "plotly.min.js"


def render(template: str, **values: Any) -> str:
    """A page, or a part of one. Raises InputError when Jinja2 is not installed."""
    return _environment().get_template(template).render(**values)


def asset(name: str) -> str:
    """One of `ASSETS`, or `PLOTLY`. Raises InputError when Plotly is not installed."""
    return _plotly() if name == PLOTLY else _text(name)


def chart_data(charts: Iterable[Chart | None]) -> dict[str, object]:
    """By id, for the script."""
    return {chart.id: chart.as_json() for chart in charts if chart is not None}


def offline_policy() -> str:
    """Of a page that holds all it needs: own scripts by hash, pictures as `data:`, nothing from outside.

    Styles may stand anywhere, since Plotly makes some: with nothing to load they can tell nobody anything.
    """
    scripts = " ".join(_hash(asset(name)) for name in ("charts.js", "report.js", PLOTLY))
    return _policy(f"script-src {scripts}; style-src 'unsafe-inline'; img-src data:")


def site_policy() -> str:
    """Of a page of the local site."""
    allowed = "script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; frame-ancestors 'none'"
    return _policy(allowed, forms="'self'")


@functools.cache
def plotly_packed() -> str:
    """Plotly, gzipped, in base64: the page unpacks it after its first paint."""
    return base64.b64encode(gzip.compress(asset(PLOTLY).encode(), 9, mtime=0)).decode()


def _policy(allowed: str, forms: str = "'none'") -> str:
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action {forms}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _text(name: str) -> str:
    return (resources.files("shards.report") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    """Without importing plotly, which takes a second."""
    try:
        file = metadata.distribution("plotly").locate_file(f"plotly/package_data/{PLOTLY}")
        with open(str(file), encoding="utf-8") as script:
            return script.read()
    except (metadata.PackageNotFoundError, FileNotFoundError):
        raise InputError("plotly: not installed: pip install 'personae[report]'") from None


@functools.cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError:
        raise InputError("jinja2: not installed: pip install 'personae[report]'") from None
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda n: f"{n:,}"
    environment.filters["score"] = lambda n: f"{n:.3f}"
    environment.globals["asset"] = asset
    return environment
