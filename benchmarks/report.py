"""
The figures side by side, and the bars they are held to.
"""

from collections.abc import Iterator, Sequence
from statistics import median

from attrs import frozen


@frozen(kw_only=True)
class Sample:
    """
    What one run of one server showed.

    @ivar requests: acknowledged to wrk.
    @ivar kept: found in the store; C{cpu_ms} is per crash of these.
    @ivar cpu_ms: user and system time of all its processes.
    @ivar per_s: crashes acknowledged a second.
    """

    server: str
    size: str
    connections: int
    requests: int
    kept: int
    cpu_ms: float
    per_s: float
    p50_ms: float
    p99_ms: float
    peak_mb: float

    def __str__(self) -> str:
        return (
            f"{self.server} {self.cpu_ms:.3f} ms CPU a crash, {self.per_s:.0f}/s, p50 {self.p50_ms:.2f} ms, "
            f"p99 {self.p99_ms:.2f} ms, peak {self.peak_mb:.0f} MB ({self.kept} kept of {self.requests} acknowledged)"
        )


@frozen(kw_only=True)
class Bar:
    """
    What collectord is held to at one size.

    @ivar times_nginx: at most so many times nginx's CPU.
    @ivar cpu_ms: at most so much CPU on a machine where nginx takes C{nginx_ms}.
    @ivar klein_times: plain Klein takes at least so many times as much.
    """

    times_nginx: float
    cpu_ms: float
    nginx_ms: float
    klein_times: float | None = None


BARS = {
    "10k": Bar(times_nginx=11, cpu_ms=1.0, nginx_ms=0.09),
    "400k": Bar(times_nginx=3.2, cpu_ms=1.7, nginx_ms=0.53, klein_times=6),
    "5m": Bar(times_nginx=1.7, cpu_ms=12, nginx_ms=7.1),
}

_COLUMNS = ("size", "server", "conns", "CPU ms/crash", "(min-max)", "crashes/s", "p50 ms", "p99 ms", "peak MB")


def medians(samples: Sequence[Sample]) -> dict[tuple[str, str], Sample]:
    """By size and server, the run that never was: each of its figures the median of all rounds."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.size, sample.server), []).append(sample)
    return {key: _median(group) for key, group in groups.items()}


def render(samples: Sequence[Sample]) -> str:
    """The medians as a table, then the ratios and whether each bar is met."""
    middle = medians(samples)
    rows = [_COLUMNS]
    for (size, server), sample in middle.items():
        cpu = [each.cpu_ms for each in samples if (each.size, each.server) == (size, server)]
        rows.append(
            (
                size,
                server,
                str(sample.connections),
                f"{sample.cpu_ms:.3f}",
                f"({min(cpu):.3f}-{max(cpu):.3f})",
                f"{sample.per_s:.0f}",
                f"{sample.p50_ms:.2f}",
                f"{sample.p99_ms:.2f}",
                f"{sample.peak_mb:.0f}",
            )
        )
    return "\n".join([*_aligned(rows), "", *_ratios(middle)])


def _ratios(middle: dict[tuple[str, str], Sample]) -> Iterator[str]:
    for size in dict.fromkeys(size for size, _ in middle):
        bar = BARS.get(size)
        ours, nginx, klein = (middle.get((size, name)) for name in ("collectord", "nginx", "plain_klein"))
        if ours is None:
            continue
        if nginx is not None:
            ratio = ours.cpu_ms / nginx.cpu_ms
            verdict = f"; bar: at most {bar.times_nginx:g} {_met(ratio <= bar.times_nginx)}" if bar else ""
            yield f"{size}: collectord takes {ratio:.2f} times the CPU of nginx{verdict}"
        if klein is not None:
            ratio = klein.cpu_ms / ours.cpu_ms
            least = bar.klein_times if bar else None
            verdict = f"; bar: at least {least:g} {_met(ratio >= least)}" if least else ""
            yield f"{size}: plain Klein takes {ratio:.2f} times the CPU of collectord{verdict}"
        if bar is not None:
            here = f", here {nginx.cpu_ms:.2f}" if nginx else ""
            yield (
                f"{size}: collectord takes {ours.cpu_ms:.2f} ms; bar: at most {bar.cpu_ms:g} "
                f"{_met(ours.cpu_ms <= bar.cpu_ms)} where nginx takes {bar.nginx_ms:g}{here}"
            )


def _met(met: bool) -> str:
    return "[met]" if met else "[MISSED]"


def _median(group: Sequence[Sample]) -> Sample:
    return Sample(
        server=group[0].server,
        size=group[0].size,
        connections=group[0].connections,
        requests=round(median(each.requests for each in group)),
        kept=round(median(each.kept for each in group)),
        cpu_ms=median(each.cpu_ms for each in group),
        per_s=median(each.per_s for each in group),
        p50_ms=median(each.p50_ms for each in group),
        p99_ms=median(each.p99_ms for each in group),
        peak_mb=median(each.peak_mb for each in group),
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
