"""
The metrics, sent to a statsd server as well: the same names, with dots.

=============  ==================================================================================================
metric         lines
=============  ==================================================================================================
counter        C{collectord.received:3|c}: what was added since the last time; nothing where nothing was
gauge          C{collectord.connections:12|g}, each time
histogram      C{collectord.save_bytes.primary.count:3|c} and C{.sum:120000|c}, as a counter; and of one in seconds
               C{collectord.save_seconds.primary.mean:4.2|ms}, the mean since the last time
=============  ==================================================================================================

Values of labels are further steps of the name, in the order of C{collectord.metrics}: C{collectord.answers.200.kept}.
With C{tags} they are DogStatsD tags instead: C{collectord.answers:3|c|#status:200,reason:kept}.
"""

import math
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

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
"""A datagram goes through every network whole."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class Lines:
    """
    Makes lines of metrics, and remembers what was counted.

    @param tags: of DogStatsD for labels; otherwise they are in the name.
    """

    def __init__(self, *, tags: bool = False) -> None:
        self._tags = tags
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}

    def of(self, metrics: Iterable[Metric]) -> Iterator[str]:
        """Since the last time."""
        for metric in metrics:
            if metric.type == "histogram":
                yield from self._of_histogram(metric)
                continue
            for sample in metric.samples:
                if metric.type == "gauge":
                    if math.isfinite(sample.value):
                        yield self._line(sample, "", max(sample.value, 0), "g")  # with a sign it would be a change
                elif sample.name.endswith("_total") and (more := self._more(sample)):
                    yield self._line(sample, "", more, "c")

    def _of_histogram(self, metric: Metric) -> Iterator[str]:
        counts: dict[tuple[str, ...], float] = {}
        for sample in metric.samples:  # each count comes before its sum
            labels = tuple(sample.labels.values())
            if sample.name.endswith("_count"):
                counts[labels] = self._more(sample)
            elif sample.name.endswith("_sum"):
                more = self._more(sample)
                if count := counts.get(labels):
                    yield self._line(sample, ".count", count, "c")
                    yield self._line(sample, ".sum", more, "c")
                    if metric.name.endswith("_seconds"):
                        yield self._line(sample, ".mean", 1000 * more / count, "ms")

    def _more(self, sample: Sample) -> float:
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
    """C{lines} in datagrams of L{PACKET_BYTES} at most; a line that alone is longer is left out."""
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
    Sends each C{interval} seconds, and once more at the end.

    @param address: C{host:port}; the host is looked up at the start, and again until it is found.
    @param metrics: gives all of them.
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
    ) -> None:
        self._address = address
        self._interval = interval
        self._metrics = metrics
        self._in_thread = in_thread
        self._lines = Lines(tags=tags)
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._socket: socket.socket | None = None
        self._was_told = False

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._interval)

    def stopService(self) -> None:
        """What was counted since the last time is sent."""
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
                connected = await self._in_thread(lambda: _connected(self._address))
            except OSError as e:
                self._tell(e)
                return
            if not self.running:
                connected.close()
                return
            self._socket = connected
        self._send(self._socket)

    def _tell(self, error: OSError) -> None:
        if not self._was_told:
            self._log.warn(
                "statsd at {address} is not found, and is looked up again: {why}", address=self._address, why=error
            )
            self._was_told = True

    def _send(self, connected: socket.socket) -> None:
        for packet in packets(self._lines.of(self._metrics())):
            with suppress(OSError):  # nobody listens, or the buffer is full: so it is with UDP
                connected.send(packet)


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    connected = socket.socket(family, kind, protocol)
    try:
        connected.setblocking(False)
        connected.connect(found)
    except BaseException:
        connected.close()
        raise
    return connected
