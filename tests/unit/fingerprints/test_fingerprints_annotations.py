from collectord.fingerprints.annotations import LOOKED_AT, facts_told
from collectord.model import CrashFacts
from tests.support.cases import for_each

JAVA = """java.lang.IllegalStateException: Fragment 42 not attached
\tat org.mozilla.fenix.Home.onViewCreated(Home.kt:214)
\tat androidx.fragment.app.Fragment.performViewCreated(Fragment.java:3019)
\tat org.mozilla.fenix.Home$1.run(Unknown Source:12)
"""
CAUSED = """java.lang.RuntimeException: Unable to start activity
\tat android.app.ActivityThread.performLaunchActivity(ActivityThread.java:3449)
Caused by: java.lang.NullPointerException: {message}
\tat java.util.Objects.requireNonNull(Objects.java:203)
\tat org.mozilla.fenix.{where}(Store.kt:17)
\t... 11 more
"""
V8 = """TypeError: Cannot read properties of undefined (reading 'id')
    at render (app://app/main.js:10:5)
    at Object.next (app://app/vendor.js:99:12)
    at app://app/main.js:12:3
"""
GECKO = """render@resource://app/main.js:10:5
next@resource://app/vendor.js:99:12
"""


def told(**annotations: str) -> CrashFacts:
    facts = facts_told(annotations)
    assert facts is not None
    return facts


@for_each(
    ("annotations", "fingerprint", "place"),
    [
        (
            {"JavaStackTrace": JAVA},
            "1:655aeae48c6735da",
            "java java.lang.IllegalStateException org.mozilla.fenix.Home.onViewCreated",
        ),
        ({"JavaScriptException": V8}, "1:e085bd4e29f3c4d7", "javascript TypeError render"),
        (
            {"StackTraces": GECKO},
            "1:a42c7625bea9d356",
            "javascript render@resource://app/main.js next@resource://app/vendor.js",
        ),
        (
            {"MozCrashReason": "MOZ_RELEASE_ASSERT(aIndex < 17) (index 0x1f of 20)"},
            "1:f9518f1c6d44806b",
            "reason MOZ_RELEASE_ASSERT(aIndex < #) (index # of #)",
        ),
    ],
    ids=["java", "v8", "gecko", "reason"],
)
def test_what_is_told(annotations: dict[str, str], fingerprint: str, place: str) -> None:
    """The values never change for version 1."""
    assert facts_told(annotations) == CrashFacts(fingerprint=fingerprint, place=place)


@for_each(
    "annotations",
    [
        {},
        {"ProductName": "Fenix"},
        {"JavaStackTrace": " \n"},
        {"StackTraces": '{"crash_info": {"address": "0x7f"}}'},
        {"StackTraces": "[]"},
        {"MozCrashReason": ""},
    ],
    ids=["none", "others", "blank", "json", "json_list", "empty"],
)
def test_nothing_is_told(annotations: dict[str, str]) -> None:
    assert facts_told(annotations) is None


@for_each(
    "other",
    [
        JAVA.replace("Fragment 42", "Fragment 43"),
        JAVA.replace("Home.kt:214", "Home.kt:219"),
        JAVA.replace("\n", "\r\n"),
        JAVA.replace("\n", "\\n"),
        JAVA.replace("\t", "        "),
        "\n" + JAVA,
    ],
    ids=["message", "line", "crlf", "escaped", "blanks", "blank_line"],
)
def test_what_does_not_matter(other: str) -> None:
    assert told(JavaStackTrace=other) == told(JavaStackTrace=JAVA)


@for_each(
    "other",
    [
        JAVA.replace("IllegalState", "IllegalArgument"),
        JAVA.replace("onViewCreated", "onDestroyView"),
        JAVA.replace("performViewCreated", "performDestroyView"),
        "java.lang.IllegalStateException: Fragment 42 not attached",
    ],
    ids=["exception", "frame", "second_frame", "no_frames"],
)
def test_what_makes_another_fingerprint(other: str) -> None:
    assert told(JavaStackTrace=other).fingerprint != told(JavaStackTrace=JAVA).fingerprint


def test_the_first_cause_counts() -> None:
    one, again, other = (
        told(JavaStackTrace=CAUSED.format(message=message, where=where)).fingerprint
        for message, where in [("a", "Store.load"), ("b", "Store.load"), ("a", "Tabs.close")]
    )
    assert one == again != other


def test_frames_after_the_fifth_do_not_count() -> None:
    frames = [f"\tat org.mozilla.Frame{name}.run(F.java:1)\n" for name in "abcdefgh"]
    one = told(JavaStackTrace="java.lang.Error\n" + "".join(frames))
    assert told(JavaStackTrace="java.lang.Error\n" + "".join(frames[:5])) == one
    assert told(JavaStackTrace="java.lang.Error\n" + "".join(frames[:4])) != one


@for_each(
    ("one", "other"),
    [
        ("index 5 of 7", "index 12 of 0"),
        ("at 0x7fffdeadbeef", "at 0X12"),
        ("actor 7f3ab4501c20", "actor 0011223344ff"),
        ("id {1f00abcd-0000-11aa}", "id {2200abce-1111-22aa}"),
        ("panicked\nat main.rs", "panicked\nat lib.rs"),
    ],
    ids=["numbers", "addresses", "hexadecimal", "ids", "first_line"],
)
def test_reasons_are_normalised(one: str, other: str) -> None:
    assert told(MozCrashReason=one) == told(MozCrashReason=other)


def test_words_that_look_hexadecimal_are_kept() -> None:
    assert told(MozCrashReason="a defaced feedface decade").place == "reason a defaced feedface decade"


def test_java_counts_before_javascript_and_that_before_reasons() -> None:
    every = {"JavaStackTrace": JAVA, "JavaScriptException": V8, "MozCrashReason": "a"}
    assert facts_told(every) == told(JavaStackTrace=JAVA)
    assert facts_told({**every, "JavaStackTrace": ""}) == told(JavaScriptException=V8)
    assert told(JavaScriptException="TypeError: no", StackTraces=GECKO) != told(StackTraces=GECKO)


def test_what_is_behind_the_limit_is_not_looked_at() -> None:
    head = JAVA + "x" * (LOOKED_AT - len(JAVA))
    assert told(JavaStackTrace=head + "\nCaused by: a.B: c\n\tat d.E(F.java:1)") == told(JavaStackTrace=JAVA)


def test_a_lone_surrogate_does_no_harm() -> None:
    assert told(MozCrashReason="a\ud800b").fingerprint == told(MozCrashReason="a?b").fingerprint
