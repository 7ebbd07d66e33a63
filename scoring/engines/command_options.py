"""The scoring command's options for engines and shards."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from marginalia.schemas.errors import InputError
from marginalia.scoring import COMMAND
from marginalia.scoring.config import RAY_FLAGS, RayOptions, ScoreSection
from marginalia.scoring.request_options import add_option


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Adds --shard, --engine and the options of Ray."""
    add = parser.add_argument_group("distribution over cores, GPUs and machines").add_argument
    add(
        "--shard",
        metavar="I/N",
        help=f"score only the Ith of N parts of the records; see {COMMAND} merge --help",
    )
    add_option(add, ScoreSection, "engine")
    for name, flag in RAY_FLAGS.items():
        add_option(add, RayOptions, name, flag=flag)


def ray_options(options: argparse.Namespace) -> RayOptions:
    """The options of Ray that were given. Raises InputError that names the wrong option."""
    given = {name: getattr(options, flag.replace("-", "_")) for name, flag in RAY_FLAGS.items()}
    try:
        return RayOptions(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"--{RAY_FLAGS[str(first['loc'][0])]}: {first['msg']}") from None
