"""The engine's options on the command line of `python -m scoring`."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from marginalia.schemas.errors import InputError
from marginalia.scoring.config import RAY_FLAGS, RayOptions


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("spreading over cores, GPUs and machines").add_argument
    add(
        "--shard",
        metavar="I/N",
        help="score the Ith of N parts of the records only; see python -m scoring merge --help",
    )
    add("--engine", choices=("local", "ray"), default="local", help="ray: a pool of models, by Ray Data")
    add("--address", metavar="HOST:PORT", help="of a Ray cluster's head; default: Ray is started on this machine")
    add("--actors", type=int, metavar="N", help="models loaded at once (default: as many as there is room for)")
    add("--actor-cpus", type=int, metavar="N", help="cores for each (default: 1 beside a GPU, else up to 4)")
    add("--actor-gpus", type=float, metavar="N", help="GPUs for each (default: 1 where there are any)")


def ray_options(options: argparse.Namespace) -> RayOptions:
    """What was asked for. Raises InputError that names the option."""
    given = {name: getattr(options, flag.replace("-", "_")) for name, flag in RAY_FLAGS.items()}
    try:
        return RayOptions(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"--{RAY_FLAGS[str(first['loc'][0])]}: {first['msg']}") from None
