"""
Places as people read them.
"""

from collectord.admin.place import ShownPlace, shown_place

DEBUG_ID = "4C1B2E8F90A34D7792E65C0B7A1D3F221"


def test_places() -> None:
    expected = {
        f"amd64 0xc0000005 app core.dll {DEBUG_ID} 0x1f2e4c": ShownPlace("app core.dll+0x1f2e4c", DEBUG_ID),
        "arm64 0xb libc.so.6": ShownPlace("libc.so.6"),
        "amd64 0xb": ShownPlace("amd64 0xb"),
        "java java.lang.Error org.app.Home.open": ShownPlace("org.app.Home.open", exception="java.lang.Error"),
        "java not a class org.app.Home": ShownPlace("java not a class org.app.Home"),
        "reason MOZ_CRASH(oh no)": ShownPlace("reason MOZ_CRASH(oh no)"),
        "": ShownPlace(""),
    }
    assert {place: shown_place(place) for place in expected} == expected
