"""``python -m benchmarks.middleware``: µs of CPU per request of the middleware beside the bare application, on one thread."""

import statistics
import time
import timeit
from collections.abc import Callable
from contextlib import suppress

import click
from tabulate import tabulate

from backfill.hashing.salt import Salt
from backfill.web import AsgiMiddleware, Edge, Key, Pseudonymizer, WsgiMiddleware

TOKEN = "the-secret-of-the-edge"
ADDRESS = "2001:db8:0:1:1:1:1:1"
BROWSER = {  # what a browser sends besides
    "Host": "example.org",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Cookie": "session=" + "0" * 64,
    "Connection": "keep-alive",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
}
KEYS = [Key(name, Salt(f"{name} salt, of some length", source="benchmark")) for name in ("2025", "2023")]
FORWARDED = {"X-Forwarded-For": f"203.0.113.9, {ADDRESS}"}
BY_EDGE = FORWARDED | {
    "Warehouse-Token": TOKEN,
    "Warehouse-IP": ADDRESS,
    "Warehouse-Hashed-IP": Pseudonymizer(*KEYS).hash(ADDRESS),
    "Warehouse-City": "berlin",
    "Warehouse-Continent": "EU",
    "Warehouse-Country-Code": "DE",
    "Warehouse-Country-Code3": "DEU",
    "Warehouse-Country-Name": "germany",
    "Warehouse-Region": "BE",
}


def wsgi(headers: dict[str, str], **options: object) -> tuple[Callable[[], object], Callable[[], object]]:
    """A request of the bare application, and one through the middleware."""
    keys = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    environ = keys | {"REMOTE_ADDR": "10.0.0.1", "REMOTE_PORT": "4711", "PATH_INFO": "/"}

    def application(environ: dict[str, object], start_response: object) -> list[bytes]:
        return [b"ok"]

    middleware = WsgiMiddleware(application, **options)
    return lambda: application(dict(environ), None), lambda: middleware(dict(environ), None)


def asgi(headers: dict[str, str], **options: object) -> tuple[Callable[[], object], Callable[[], object]]:
    """The same for ASGI, without an event loop's own time."""
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "client": ("10.0.0.1", 4711), "headers": pairs}

    async def application(scope: object, receive: object, send: object) -> None:
        return None

    def through(app: Callable[..., object]) -> Callable[[], object]:
        def request() -> None:
            with suppress(StopIteration):
                app(dict(scope), None, None).send(None)

        return request

    return through(application), through(AsgiMiddleware(application, **options))


def microseconds(request: Callable[[], object], number: int, repeat: int) -> float:
    """The median of *repeat* rounds."""
    return (
        statistics.median(timeit.repeat(request, number=number, repeat=repeat, timer=time.process_time))
        / number
        * 1e6
    )


@click.command()
@click.option("--requests", default=20_000, show_default=True, help="Requests of a round.")
@click.option("--repeat", default=7, show_default=True, help="Rounds; the median counts.")
def main(requests: int, repeat: int) -> None:
    """Measure, and print what was measured."""
    ways = {
        "X-Forwarded-For, one key": (FORWARDED, {"pseudonymizer": Pseudonymizer(KEYS[0])}),
        "the edge, one key": (BY_EDGE, {"pseudonymizer": Pseudonymizer(KEYS[0])}),
        "the edge, two keys, peer hidden": (
            BY_EDGE,
            {"pseudonymizer": Pseudonymizer(*KEYS), "hide_peer": True},
        ),
    }
    body = []
    for name, (headers, options) in ways.items():
        for kind, make in (("WSGI", wsgi), ("ASGI", asgi)):
            bare, through = make(BROWSER | headers, edge=Edge(TOKEN), proxies=1, **options)
            alone, with_it = microseconds(bare, requests, repeat), microseconds(through, requests, repeat)
            body.append([kind, name, alone, with_it, with_it - alone])
    click.echo(
        f"µs of CPU per request, median of {repeat} rounds of {requests:,}, IPv6, {len(BROWSER | BY_EDGE)} headers"
    )
    header = ["", "client told by", "bare", "with the middleware", "costs"]
    click.echo(tabulate(body, header, floatfmt=".1f"))


if __name__ == "__main__":
    main()
