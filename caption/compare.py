"""`python -m caption compare A.yaml B.yaml --photos PHOTO …`: configurations side by side, in one HTML file.

The file holds the crops and asks for nothing from outside; every text in it is escaped. Keeps nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from caption.captioned import Caption
from caption.captioner import BACKENDS
from caption.chat import data_url
from caption.config import CaptionRun
from caption.models import licences
from caption.trial import Trial, try_photos
from crawl.config import load
from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import Rejection


def compare_command(arguments: Sequence[str]) -> int:
    """Write the page. Raises InputError for a run file or a photo that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m caption compare", description="Put what configurations say of photos side by side, as HTML."
    )
    parser.add_argument("configs", metavar="CONFIG.yaml", nargs="+", help="two run files, or more")
    parser.add_argument("--photos", metavar="PHOTO", nargs="+", required=True)
    parser.add_argument("--html", metavar="FILE", default="captions.html", help="default: %(default)s")
    parser.add_argument("--set", metavar="key=value", nargs="*", default=[], help="overrides for every run file")
    parsed = parser.parse_args(arguments)
    if len(parsed.configs) < 2:
        raise InputError(f"{parsed.configs[0]}: name another run file to compare it with")
    columns = []
    for config in parsed.configs:
        run = load(CaptionRun, config, parsed.set)
        for line in licences(run.caption):
            print(line, file=sys.stderr)
        columns.append(_column(config, run, try_photos(run, parsed.photos)))
    target = Path(parsed.html)
    Output(str(target.parent)).write(target.name, page(columns).encode())
    print(f"{len(parsed.photos)} photos, {len(columns)} configurations: {parsed.html}")
    return 0


def page(columns: list[dict[str, Any]]) -> str:
    """The HTML. A column has a trial a photo, all in the same order."""
    try:
        import jinja2
    except ImportError:
        raise InputError("jinja2: not installed: pip install 'personae[caption]'") from None
    text = (resources.files("caption") / "compare.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    rows = list(zip(*(column["trials"] for column in columns), strict=True))
    return environment.from_string(text).render(columns=columns, rows=rows)


def _column(label: str, run: CaptionRun, trials: list[Trial]) -> dict[str, Any]:
    efforts = [trial.answer.effort for trial in trials]
    back = Counter(reason for effort in efforts for reason in effort.faults)
    return {
        "label": label,
        "made_by": BACKENDS[run.caption.backend].made_by(run.caption),
        "captions": sum(isinstance(trial.answer.outcome, Caption) for trial in trials),
        "replies": sum(effort.replies for effort in efforts),
        "tokens": sum(effort.new_tokens for effort in efforts),
        "seconds": sum(trial.seconds for trial in trials),
        "sent_back": ", ".join(f"{count} {reason}" for reason, count in back.most_common()),
        "trials": [_shown(label, trial) for trial in trials],
    }


def _shown(label: str, trial: Trial) -> dict[str, Any]:
    outcome, effort = trial.answer.outcome, trial.answer.effort
    shown: dict[str, Any] = {
        "label": label,
        "path": trial.path,
        "image": data_url(trial.portrait.image_jpeg),
        "shown": trial.shown,
        "faults": ", ".join(effort.faults),
        "tokens": f"{effort.general_tokens} + {effort.background_tokens} + {effort.body_tokens}",
        "caption": None,
    }
    if isinstance(outcome, Rejection):
        return shown | {"why": f"{outcome.reason}{f': {outcome.detail}' if outcome.detail else ''}"}
    at = outcome.trigger_position
    return shown | {"caption": outcome, "before": outcome.general[:at], "after": outcome.general[at:]}
