"""`python -m shards COMMAND`: build a dataset, check it, show it, publish it, take people out of it."""

from __future__ import annotations

import argparse
import contextlib
import sys

from caption.figures import caption_figures, figure_lines
from crawl.command import Bars, add_config_arguments
from crawl.config import load
from crawl.errors import InputError, exit_with_one_line
from crawl.output import Output
from shards.build import build
from shards.card.check import card_command
from shards.config import BuildRun, EngineConfig
from shards.derive import merge, split
from shards.encoders.config import encode_run
from shards.publish.command import add_publish_arguments, publish_command
from shards.removal import takedown
from shards.steps.plan import WorkerError, cluster
from shards.summary import print_info, print_summary
from shards.verify.dataset import verify_dataset, verify_tar
from shards.verify.parallel import on_ray


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 only on full success."""
    parsed = _parser().parse_args(arguments)
    return int(parsed.command(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shards", description="Build, check and describe datasets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("build", help="the whole pipeline: photos in, verified shards out")
    add_config_arguments(make)
    make.set_defaults(command=_build)
    check = commands.add_parser("verify", help="check every promise of the format; lists what is wrong")
    check.add_argument("dataset", help="a dataset folder or URL, or a single .tar")
    check.add_argument("--decode", action="store_true", help="every pixel of every picture too: for shards of others")
    check.add_argument("--processes", type=int, help="default: one a core, and one for small datasets")
    check.add_argument("--address", help="share the shards out on this running Ray cluster (`auto`, `ray://host:port`)")
    check.set_defaults(command=_verify)
    info = commands.add_parser("info", help="what is in a dataset: funnel, identities, shards")
    info.add_argument("dataset", help="a dataset folder or URL")
    info.set_defaults(command=_info)
    page = commands.add_parser("report", help="a dataset to look at, in one HTML file that needs no network")
    page.add_argument("dataset", help="a dataset folder or URL")
    page.add_argument("--output", metavar="FILE", help="where the file goes (default: DATASET/report.html)")
    page.set_defaults(command=_report)
    site = commands.add_parser(
        "serve", help="the same as a local site on 127.0.0.1, for datasets too large for one file"
    )
    site.add_argument("dataset", help="a dataset folder or URL")
    site.add_argument("--port", type=int, default=8000, help="0 takes any that is free (default: %(default)s)")
    site.set_defaults(command=_serve)
    card = commands.add_parser("card", help="make card and croissant.json anew, or check their numbers")
    card.add_argument("dataset", help="a dataset folder or URL")
    card.add_argument("--check", action="store_true", help="write nothing; list every number that is not true")
    card.set_defaults(command=lambda parsed: card_command(parsed.dataset, parsed.check))
    publish = commands.add_parser("publish", help="what would go to the Hugging Face hub; with --yes, send it")
    add_publish_arguments(publish)
    publish.set_defaults(command=publish_command)
    cache = commands.add_parser("encode", help="run a base's frozen encoders once; training reads what they said")
    cache.add_argument("source", metavar="CONFIG.yaml|DATASET", help="a training run file, or a dataset folder or URL")
    cache.add_argument("overrides", metavar="key=value", nargs="*", help="encode.features=latents,clip_pooled")
    cache.set_defaults(command=_encode)
    remove = commands.add_parser("takedown", help="take people or photos out of a dataset, for good")
    takedown.add_arguments(remove)
    merge.add_arguments(commands.add_parser("merge", help="several datasets as one"))
    split.add_split_arguments(commands.add_parser("split", help="train, val and test that share no person"))
    split.add_sample_arguments(commands.add_parser("sample", help="a small dataset to show around"))
    return parser


def _build(parsed: argparse.Namespace) -> int:
    run = load(BuildRun, parsed.config, parsed.overrides)
    try:
        built = build(run)
    except WorkerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    output = Output(run.output)
    print_summary(output, built)
    for line in figure_lines(caption_figures(run, output)):
        print(line)
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    if parsed.processes is not None and parsed.processes < 1:
        raise InputError(f"--processes: {parsed.processes}: at least 1")
    problems = verify_tar(parsed.dataset) if parsed.dataset.endswith(".tar") else _verify_folder(parsed)
    for problem in problems:
        print(problem)
    print(f"{parsed.dataset}: {len(problems)} problems" if problems else f"{parsed.dataset}: all promises hold")
    return 1 if problems else 0


def _verify_folder(parsed: argparse.Namespace) -> list[str]:
    output = Output(parsed.dataset)
    if parsed.address is None:
        return verify_dataset(output, parsed.decode, parsed.processes)
    with cluster(EngineConfig(address=parsed.address)):
        return verify_dataset(output, parsed.decode, spread=on_ray)


def _encode(parsed: argparse.Namespace) -> int:
    run = encode_run(parsed.source, parsed.overrides)
    from shards.features.encode import encode  # torch and the encoders: seconds

    with Bars() as bars:
        for line in encode(run, bars):
            print(line)
    return 0


def _report(parsed: argparse.Namespace) -> int:
    from shards.report.write import write_report

    where, num_bytes = write_report(parsed.dataset, parsed.output)
    print(f"report  {where} ({num_bytes / 1e6:.1f} MB)")
    return 0


def _serve(parsed: argparse.Namespace) -> int:
    from shards.serve.server import Server

    with contextlib.suppress(KeyboardInterrupt), Server(parsed.dataset, parsed.port) as server:
        print(f"{parsed.dataset}: {server.url} (on this machine only; Ctrl+C ends it)", flush=True)
        server.serve_forever()
    return 0


def _info(parsed: argparse.Namespace) -> int:
    print_info(Output(parsed.dataset))
    return 0


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main))
