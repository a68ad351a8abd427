from twisted.logger import formatEvent

from collectord.observe.loss import LossWatch
from collectord.observe.status import Loss
from tests.unit.intake.parts import recorded_log


def test_it_says_when_it_begins_and_when_it_ends() -> None:
    watch = LossWatch()
    with recorded_log() as log:
        watch.note(10.0, False, 7)
        assert (watch.loss, log.events) == (None, [])
        watch.note(12.0, True, 7)
        assert watch.loss == Loss(since=12.0, refused=0)
        watch.note(14.0, True, 10)
        assert watch.loss == Loss(since=12.0, refused=3)
        watch.note(20.0, False, 11)
        assert watch.loss is None
        watch.note(22.0, True, 12)
        assert watch.loss == Loss(since=22.0, refused=1)  # counted since the state was taken before
    lost = "CRASHES ARE BEING LOST: no store takes any, and reports are answered 503"
    again = "crashes are kept again after 8 s; reports answered 503 meanwhile: 4"
    assert [formatEvent(event) for event in log.events] == [lost, again, lost]
    assert {event["log_level"].name for event in log.events} == {"error"}
