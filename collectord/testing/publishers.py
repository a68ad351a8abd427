"""
The contract of every publisher, as tests.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from twisted.internet.defer import Deferred

from collectord.concurrency.tasks import gather
from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.testing.crashes import make_crash
from collectord.testing.leaks import assert_nothing_is_left, held_now
from collectord.testing.running import assert_implements, assert_raises, in_reactor

_PUBLISHED = "publish() has returned, so the queue holds the id: nothing but crash.crash_id, and once"


@frozen
class Publisher:
    """
    The publisher to test, as the author of the tests describes it.

    @ivar make: makes a publisher with the settings to test. It is called several times, as reloads do; all publishers
        lead to the same queue, which is empty at first. The tests close them.
    @ivar published: returns the bare ids that the queue holds, each as often as the queue holds it.
    @ivar unreachable: makes a publisher whose queue can't be reached.
    """

    make: Callable[[], ICrashPublisher]
    published: Callable[[], Awaitable[Sequence[str]]]
    unreachable: Callable[[], ICrashPublisher]


class PublisherContract:
    """
    The tests that every publisher has to pass.

    Make a subclass for your publisher, and override the fixture C{subject} in it.
    """

    @pytest.fixture
    def subject(self) -> Publisher:
        """The publisher to test."""
        raise NotImplementedError(
            "override the fixture 'subject' in your subclass of PublisherContract: it returns"
            " collectord.testing.Publisher(make=…, published=…, unreachable=…), see docs/plugins.rst"
        )

    @pytest.fixture
    def publisher(self, subject: Publisher) -> Iterator[ICrashPublisher]:
        """Make one publisher, and close it at the end of the test."""
        publisher = subject.make()
        yield publisher
        pytest_twisted.blockon(Deferred.fromCoroutine(publisher.close()))

    @in_reactor
    async def test_interface(self, publisher: ICrashPublisher) -> None:
        assert_implements(ICrashPublisher, publisher)

    @in_reactor
    async def test_a_check_tells_nothing(self, subject: Publisher, publisher: ICrashPublisher) -> None:
        await publisher.check()
        assert list(await subject.published()) == [], "check() publishes nothing"

    @in_reactor
    async def test_the_bare_id(self, subject: Publisher, publisher: ICrashPublisher) -> None:
        crash = make_crash()
        await publisher.publish(crash)
        assert list(await subject.published()) == [crash.crash_id], _PUBLISHED

    @in_reactor
    async def test_many_at_once(self, subject: Publisher, publisher: ICrashPublisher) -> None:
        crashes = [make_crash() for _ in range(500)]  # many more than a recursion bears
        await gather(publisher.publish(crash) for crash in crashes)
        assert sorted(await subject.published()) == sorted(crash.crash_id for crash in crashes), _PUBLISHED

    @in_reactor
    async def test_unreachable(self, subject: Publisher) -> None:
        unreachable = subject.unreachable()
        promise = "of a queue that can't be reached, {}() raises PublishError, with a text for the operator"
        await assert_raises(PublishError, unreachable.check(), promise.format("check"))
        await assert_raises(PublishError, unreachable.publish(make_crash()), promise.format("publish"))
        await unreachable.close()

    @in_reactor
    async def test_closed_twice(self, publisher: ICrashPublisher) -> None:
        await publisher.close()
        await publisher.close()

    @in_reactor
    async def test_closed_it_leaves_no_thread_and_no_open_file(self, subject: Publisher) -> None:
        async def use_one() -> None:
            publisher = subject.make()
            await publisher.check()
            await publisher.publish(make_crash())
            await publisher.close()

        await use_one()  # what is made once in a process, and stays, is there now
        before = held_now()
        for _ in range(3):
            await use_one()
        await assert_nothing_is_left(before)
