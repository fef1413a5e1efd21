"""Pure: made-up names, each once. Nobody is called like that."""

from collections.abc import Iterator
from itertools import count, product
from random import Random

_QUALITIES = (
    "amber ashen brisk calm clever copper coral crisp dapper dusty eager early fabled faint gentle gilded "
    "hazel hidden humble indigo ivory jolly keen lively lunar mellow misty noble olive opal patient plain "
    "quiet rapid rustic sable silver sturdy velvet witty"
).split()
_ANIMALS = (
    "badger bison bittern caribou civet condor curlew dormouse egret ermine falcon gannet gecko godwit heron "
    "ibex jackdaw kestrel lapwing lemur marten newt ocelot osprey otter petrel pika plover quokka raven "
    "sable shrew siskin stoat tapir tern vole walrus wombat wren"
).split()
_MATTERS = (
    "array async atlas binary cache chart cipher cluster cobalt config crystal daemon delta event fabric flow "
    "graph grid index json lattice ledger matrix metric packet parser pixel prism query queue regex schema "
    "signal socket stream tensor token vector widget yarn"
).split()
_MAKERS = (
    "bench bridge builder bundle client compose core craft deck engine forge garden glue guard helper hub kit "
    "lab lens lint mapper mill mint note pack pilot press probe runner scope server shelf shop smith stack "
    "tools tree utils works"
).split()
_JOINS = ("-", "-", "-", "_", ".", "")  # as people write project names
_FIRMS = ("Works", "Collective", "Labs", "Foundation", "Guild", "Institute")


def _pairs(first: list[str], second: list[str], rng: Random) -> Iterator[tuple[str, str, str]]:
    """Every pair once in a shuffled order, then again with 2 behind it, and so on: no end."""
    pairs = list(product(first, second))
    rng.shuffle(pairs)
    for turn in count(1):
        for one, other in pairs:
            yield one, other, "" if turn == 1 else str(turn)


def people(rng: Random) -> Iterator[tuple[str, str]]:
    """User name and display name: ``quiet-heron2``, ``Quiet Heron``."""
    for quality, animal, number in _pairs(_QUALITIES, _ANIMALS, rng):
        yield f"{quality}-{animal}{number}", f"{quality} {animal}".title()


def projects(rng: Random) -> Iterator[str]:
    """Names of projects, unique when normalised as well: ``graph-forge``, ``Json_Kit``, ``cache.mill3``."""
    for matter, maker, number in _pairs(_MATTERS, _MAKERS, rng):
        name = f"{matter}{rng.choice(_JOINS)}{maker}{number}"
        yield name.title() if rng.random() < 0.1 else name


def organizations(rng: Random) -> Iterator[tuple[str, str]]:
    """Name and display name: ``amber-prism``, ``Amber Prism Guild``."""
    for quality, matter, number in _pairs(_QUALITIES, _MATTERS, rng):
        yield (
            f"{quality}-{matter}{number}",
            f"{quality} {matter} {rng.choice(_FIRMS)} {number}".strip().title(),
        )
