"""`python -m benchmarks [NAME …]`: run the benchmarks, each in its own process, and print their tables."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.shared_photos import default_folder

ANYWHERE = (
    "shards_io",
    "filter_overhead",
    "verify_cost",
    "verify_speed",
    "compliance",
    "crawl_speed",
    "captions",
    "memory",
    "report",
    "audit",
)
WITH_PHOTOS = ("faces", "roc", "verify_rules", "pose")
"""These need the folder of real photos that `PERSONAE_SHARED` names."""


def main() -> int:
    wanted = sys.argv[1:] or [*ANYWHERE, *WITH_PHOTOS]
    failed = 0
    for name in wanted:
        print(f"\n## {name}\n", flush=True)
        if name in WITH_PHOTOS and not (default_folder() / "photos").is_dir():
            print("skipped: PERSONAE_SHARED names no folder of real photos")
            continue
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], env=environment, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
