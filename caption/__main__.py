"""`python -m caption CONFIG.yaml`: describe every portrait, in this process. `… try`, `… compare`: of a few photos."""

from __future__ import annotations

import sys

from caption.config import CaptionRun
from caption.figures import caption_figures, figure_lines
from caption.models import licences
from caption.stage import UPSTREAM, CaptionStage
from crawl.command import load_run, run_here
from crawl.errors import InputError, exit_with_one_line
from crawl.output import Output
from crawl.tables import Tables

_ABOUT = """Describe each portrait of a dataset in three parts.
`python -m caption try CONFIG.yaml PHOTO …` shows what a configuration says of photos;
`python -m caption compare A.yaml B.yaml --photos PHOTO …` puts configurations side by side."""


def main() -> int:
    """Caption, then say how many captions there are, why the others failed, and what it took."""
    if sys.argv[1:2] == ["try"]:
        from caption.trial import try_command

        return try_command(sys.argv[2:])
    if sys.argv[1:2] == ["compare"]:
        from caption.compare import compare_command

        return compare_command(sys.argv[2:])
    run = load_run("python -m caption", _ABOUT, CaptionRun)
    output = Output(run.output)
    tables, buckets = Tables(output), range(run.shards.buckets)
    if all(tables.fingerprint(UPSTREAM, b) is None for b in buckets):
        raise InputError(f"{run.output}: no portraits yet: run python -m filter first")
    stage = CaptionStage(run, output)
    for line in licences(run.caption):
        print(line, file=sys.stderr)
    portraits = sum(r is None for b in buckets for r in tables.rejections(UPSTREAM, b).values())
    run_here([stage], run.shards.buckets, output, portraits)
    figures = caption_figures(run, output)
    reasons = ", ".join(f"{count} {reason}" for reason, count in figures.rejected.items())
    print(f"{portraits} portraits, {figures.captions} captions{'; ' + reasons if reasons else ''}: {run.output}")
    for line in figure_lines(figures):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
