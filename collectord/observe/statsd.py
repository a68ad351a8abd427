"""
Sends the metrics to a statsd server as well, under the same names with dots in them.

=============  ==================================================================================================
metric         lines
=============  ==================================================================================================
counter        C{collectord.received:3|c}: what was added since the last time; no line if that is 0
gauge          C{collectord.connections:12|g}, each time
histogram      C{collectord.save_bytes.primary.count:3|c} and C{.sum:120000|c}, as a counter; if it is in seconds also
               C{collectord.save_seconds.primary.mean:4.2|ms}, the mean since the last time
=============  ==================================================================================================

The values of labels are appended to the name, in the order of C{collectord.metrics}: C{collectord.answers.200.kept}.
With C{tags} they are DogStatsD tags instead: C{collectord.answers:3|c|#status:200,reason:kept}.
"""

import math
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import Metric
from prometheus_client.samples import Sample
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadRunner

PACKET_BYTES = 1400
"""The most bytes in one datagram. One of this size passes through every network without being split."""

Resolver = Callable[[str, int, int, int], list[tuple[Any, ...]]]
"""Looks up a host as C{socket.getaddrinfo} does. It gets the host, the port, the family and the kind of socket."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class StatsdLines:
    """
    Turns metrics into lines of the statsd protocol, and remembers what was counted, since statsd wants the differences.

    @param tags: whether labels become DogStatsD tags instead of parts of the name.
    """

    def __init__(self, *, tags: bool = False) -> None:
        self._tags = tags
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}

    def of(self, metrics: Iterable[Metric]) -> Iterator[str]:
        """Yield the lines for what has changed since the last call, and for all gauges."""
        for metric in metrics:
            if metric.type == "histogram":
                yield from self._of_histogram(metric)
                continue
            for sample in metric.samples:
                if metric.type == "gauge":
                    if math.isfinite(sample.value):
                        # statsd would take a number with a sign for a change.
                        yield self._line(sample, "", max(sample.value, 0), "g")
                elif sample.name.endswith("_total") and (increase := self._increase(sample)):
                    yield self._line(sample, "", increase, "c")

    def _of_histogram(self, metric: Metric) -> Iterator[str]:
        counts: dict[tuple[str, ...], float] = {}
        for sample in metric.samples:  # The count of each histogram comes before its sum.
            labels = tuple(sample.labels.values())
            if sample.name.endswith("_count"):
                counts[labels] = self._increase(sample)
            elif sample.name.endswith("_sum"):
                increase = self._increase(sample)
                if count := counts.get(labels):
                    yield self._line(sample, ".count", count, "c")
                    yield self._line(sample, ".sum", increase, "c")
                    if metric.name.endswith("_seconds"):
                        yield self._line(sample, ".mean", 1000 * increase / count, "ms")

    def _increase(self, sample: Sample) -> float:
        key = (sample.name, tuple(sample.labels.values()))
        before = self._counted.get(key, 0.0)
        self._counted[key] = sample.value
        return sample.value - before if sample.value >= before else sample.value

    def _line(self, sample: Sample, suffix: str, value: float, kind: str) -> str:
        name = re.sub(r"_(total|sum)$", "", sample.name).replace("_", ".", 1)
        labels = {key: _NOT_IN_NAMES.sub("_", text).strip("_") for key, text in sample.labels.items()}
        number = f"{value:.6f}".rstrip("0").rstrip(".")
        if not self._tags:
            return f"{'.'.join([name, *labels.values()])}{suffix}:{number}|{kind}"
        return f"{name}{suffix}:{number}|{kind}{_as_tags(labels)}"


def _as_tags(labels: Mapping[str, str]) -> str:
    return "|#" + ",".join(f"{key}:{text}" for key, text in labels.items()) if labels else ""


def packets(lines: Iterable[str]) -> Iterator[bytes]:
    """Pack C{lines} into datagrams of at most L{PACKET_BYTES}; a line that is longer than that is left out."""
    packet = b""
    for line in map(str.encode, lines):
        if len(line) > PACKET_BYTES:
            continue
        if packet and len(packet) + 1 + len(line) > PACKET_BYTES:
            yield packet
            packet = b""
        packet += (b"\n" if packet else b"") + line
    if packet:
        yield packet


class StatsdService(Service):
    """
    Sends the metrics to a statsd server every C{interval} seconds, and once more when it stops.

    @param address: C{host:port}. The host is looked up at the start; if it is not found, again at each interval.
    @param metrics: returns all metrics with their values.
    @param in_thread: where the host is looked up, which may block.
    @param resolve: looks up the host, in that thread.
    """

    _log = Logger()

    def __init__(
        self,
        address: str,
        interval: float,
        metrics: Callable[[], Iterable[Metric]],
        in_thread: ThreadRunner,
        clock: IReactorTime,
        *,
        tags: bool = False,
        resolve: Resolver = socket.getaddrinfo,
    ) -> None:
        self._address = address
        self._interval = interval
        self._metrics = metrics
        self._in_thread = in_thread
        self._resolve = resolve
        self._lines = StatsdLines(tags=tags)
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._socket: socket.socket | None = None
        self._has_warned = False

    def startService(self) -> None:
        """Begin to send."""
        super().startService()
        self._loop.start(self._interval)

    def stopService(self) -> None:
        """Send what was counted since the last time, and close the socket."""
        super().stopService()
        self._loop.stop()
        if self._socket is not None:
            self._send(self._socket)
            self._socket.close()
            self._socket = None

    def _tick(self) -> Deferred[None]:
        return spawn(self._connect_and_send(), self._log, "the metrics could not be sent to statsd")

    async def _connect_and_send(self) -> None:
        if self._socket is None:
            try:
                connected = await self._in_thread(lambda: _connected(self._address, self._resolve))
            except OSError as e:
                self._warn_once(e)
                return
            if not self.running:
                connected.close()
                return
            self._socket = connected
        self._send(self._socket)

    def _warn_once(self, error: OSError) -> None:
        if not self._has_warned:
            self._log.warn(
                "the statsd server {address} can't be found, and no metrics are sent to it: {why}; "
                "the daemon goes on trying",
                address=self._address,
                why=error,
            )
            self._has_warned = True

    def _send(self, connected: socket.socket) -> None:
        for packet in packets(self._lines.of(self._metrics())):
            with suppress(OSError):  # Nobody listens, or the buffer is full. UDP promises no more.
                connected.send(packet)


def _connected(address: str, resolve: Resolver) -> socket.socket:
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, found = resolve(host, int(port), socket.AF_UNSPEC, socket.SOCK_DGRAM)[0]
    connected = socket.socket(family, kind, protocol)
    try:
        connected.setblocking(False)
        connected.connect(found)
    except BaseException:
        connected.close()
        raise
    return connected
