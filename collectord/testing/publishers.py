"""
What every publisher promises.
"""

from collections.abc import Awaitable, Callable, Sequence

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from collectord.errors import PublishError
from collectord.interfaces import ICrashPublisher
from collectord.testing.crashes import make_crash
from collectord.testing.running import in_reactor


@frozen
class Publisher:
    """
    @ivar publisher: what is tested; nothing is in its queue. It is closed by the tests.
    @ivar told: the bare ids that the queue holds, each as often as it does.
    @ivar unreachable: one like it whose queue can't be reached.
    """

    publisher: ICrashPublisher
    told: Callable[[], Awaitable[Sequence[str]]]
    unreachable: ICrashPublisher


class PublisherContract:
    """To be subclassed, with a fixture C{subject}."""

    @pytest.fixture
    def subject(self) -> Publisher:
        raise NotImplementedError

    @in_reactor
    async def test_interface(self, subject: Publisher) -> None:
        verifyObject(ICrashPublisher, subject.publisher)
        assert isinstance(subject.publisher.name, str)
        await subject.publisher.close()

    @in_reactor
    async def test_a_check_tells_nothing(self, subject: Publisher) -> None:
        await subject.publisher.check()
        assert list(await subject.told()) == []
        await subject.publisher.close()

    @in_reactor
    async def test_the_bare_id(self, subject: Publisher) -> None:
        crash = make_crash()
        await subject.publisher.publish(crash)
        assert list(await subject.told()) == [crash.crash_id]
        await subject.publisher.close()

    @in_reactor
    async def test_many_at_once(self, subject: Publisher) -> None:
        crashes = [make_crash() for _ in range(500)]  # many more than a recursion bears
        await gatherResults(
            [Deferred.fromCoroutine(subject.publisher.publish(crash)) for crash in crashes], consumeErrors=True
        )
        assert sorted(await subject.told()) == sorted(crash.crash_id for crash in crashes)
        await subject.publisher.close()

    @in_reactor
    async def test_unreachable(self, subject: Publisher) -> None:
        with pytest.raises(PublishError):
            await subject.unreachable.check()
        with pytest.raises(PublishError):
            await subject.unreachable.publish(make_crash())
        await subject.unreachable.close()
        await subject.publisher.close()

    @in_reactor
    async def test_closed_twice(self, subject: Publisher) -> None:
        await subject.publisher.close()
        await subject.publisher.close()
