"""``python -m benchmarks``: measure, and say on what."""

import click

from benchmarks import report, verify
from benchmarks.contenders import all_contenders
from benchmarks.ground import ground
from benchmarks.measure import Measurement, measure
from benchmarks.memory import peak


@click.command()
@click.option("--events", default=500_000, show_default=True, help="Events of the demo database.")
@click.option("--repeat", default=3, show_default=True, help="Rounds; each contender once a round.")
@click.option("--only", multiple=True, help="Contenders whose name holds this text.")
@click.option("--memory", is_flag=True, help="Client memory instead of speed.")
@click.option("--verify", "proof", is_flag=True, help="Verify and a bare full join instead.")
def main(events: int, repeat: int, only: tuple[str, ...], memory: bool, proof: bool) -> None:
    """Compare ways to link events; every one gets a fresh copy of the same database."""
    with ground(events) as field:
        click.echo(report.about(field) + "\n")
        if proof:
            click.echo(verify.table(verify.measure(field, repeat)))
            return
        if memory:
            click.echo(report.memory(peak(field)))
            return
        chosen = [one for one in all_contenders() if not only or any(text in one.name for text in only)]
        runs: list[Measurement] = []
        for number in range(repeat):
            for contender in chosen:
                runs.append(measure(field, contender))
                click.echo(f"round {number + 1}: {contender.name}: {runs[-1].work.seconds:.1f} s", err=True)
        click.echo(report.table(runs) + "\n")
        click.echo(report.parts(runs) + "\n")
        click.echo(report.same_rows(runs))


if __name__ == "__main__":
    main()
