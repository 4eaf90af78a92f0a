"""Settings of the caption stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crawl.settings import Settings
from filter.config import FilterRun


class CaptionConfig(Settings):
    """Settings of `python -m caption`."""

    backend: Literal["measured"] = Field(
        "measured", description="What describes the photos; `measured`: words derived from measurements, no model."
    )
    batch_size: int = Field(8, ge=1, le=1024, description="Portraits handed to the back-end at a time.")


class CaptionRun(FilterRun):
    """What `python -m caption` needs of a run file."""

    caption: CaptionConfig = CaptionConfig()
