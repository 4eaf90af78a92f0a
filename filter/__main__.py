"""`python -m filter CONFIG.yaml`: scan, verify, pose and crop what is crawled, in this process; `… try`: one photo."""

from __future__ import annotations

import sys

from crawl.command import load_run, run_here
from crawl.errors import InputError, exit_with_one_line
from crawl.output import Output
from crawl.tables import Tables
from filter.classify import classify_stages
from filter.config import FilterRun
from filter.cut import CropStage
from filter.decide import VerifyStage
from filter.doubles import find_doubles
from filter.models import licences
from filter.pose import pose_stages
from filter.scan import ScanStage
from filter.trial import try_command

_ABOUT = """Filter what is crawled: faces, identity, poses, crops.
`python -m filter try CONFIG.yaml PHOTO …` says and draws what it makes of single photos."""


def main() -> int:
    """Filter, then say how many portraits there are."""
    if sys.argv[1:2] == ["try"]:
        return try_command(sys.argv[2:])
    run = load_run("python -m filter", _ABOUT, FilterRun)
    output = Output(run.output)
    tables, buckets = Tables(output), run.shards.buckets
    photos = sum(tables.count("crawl", b) for b in range(buckets))
    if photos == 0:
        raise InputError(f"{run.output}: nothing is crawled yet: run python -m crawl first")
    for line in licences(run.filter):
        print(line, file=sys.stderr)
    run_here([ScanStage(run, output), VerifyStage(run, output)], buckets, output, photos)
    second = [
        *pose_stages(run, output),
        *classify_stages(run, output),
        CropStage(run, output, find_doubles(run, output)),
    ]
    run_here(second, buckets, output, photos)
    portraits = sum(r is None for b in range(buckets) for r in tables.rejections("crop", b).values())
    print(f"{photos} photos, {portraits} portraits: {run.output}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
