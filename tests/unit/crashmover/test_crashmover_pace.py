"""
The pace: all at once while nobody is pressed, fewer while somebody is, and never below what comes in for long.
"""

from attrs import define, field
from twisted.internet.task import Clock

from collectord.crashmover.pace import STEP_S, Pace


@define
class Rig:
    """A pace, what comes in, and what goes out."""

    pressed: bool = False
    clock: Clock = field(factory=Clock)
    pace: Pace = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.pace = Pace(8, lambda: self.pressed, self.clock)

    def run(self, seconds: float, *, came: int, went: int) -> int:
        """So many come and go in a second. The width is what comes out."""
        for _ in range(round(seconds / STEP_S)):
            for _ in range(round(came * STEP_S)):
                self.pace.came()
            for _ in range(round(went * STEP_S)):
                self.pace.went()
            self.clock.advance(STEP_S)
            self.pace.width()
        return self.pace.width()


def test_all_at_once_while_nobody_is_pressed() -> None:
    assert Rig().run(60, came=200, went=20) == 8


def test_one_at_a_time_with_rests_while_somebody_is_pressed_and_little_comes_in() -> None:
    rig = Rig(pressed=True)
    assert rig.run(2, came=4, went=40) == 1
    assert rig.pace.rest_after(0.3) == 0.3
    assert rig.pace.rest_after(30.0) == 1.0


def test_clients_come_first_in_a_burst() -> None:
    rig = Rig(pressed=True)
    rig.run(20, came=0, went=40)
    assert rig.run(1, came=200, went=60) == 1


def test_never_below_what_comes_in_for_long() -> None:
    rig = Rig(pressed=True)
    rig.run(5, came=0, went=40)
    assert rig.run(10, came=200, went=40) == 8
    assert rig.pace.rest_after(0.3) == 0.0


def test_it_goes_up_again_at_once_when_the_pressure_is_gone() -> None:
    rig = Rig(pressed=True)
    assert rig.run(10, came=0, went=40) == 1
    rig.pressed = False
    assert rig.run(1, came=0, went=40) == 8
    assert rig.pace.rest_after(0.3) == 0.0


def test_it_does_not_jump_between_two_steps() -> None:
    rig = Rig(pressed=True)
    assert rig.pace.width() == 8
    rig.clock.advance(STEP_S)
    assert [rig.pace.width() for _ in range(3)] == [4, 4, 4]
