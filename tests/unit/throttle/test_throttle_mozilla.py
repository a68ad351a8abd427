"""
The rules of Mozilla's collector, one by one and in their order.
"""

import json
from datetime import date, timedelta

from collectord.throttle import Result, Verdict, load_rules, throttle
from tests.support.cases import for_each

TODAY = date(2024, 3, 1)
RULES = load_rules("mozilla")

ACCEPT, REJECT, FAKEACCEPT = Result.ACCEPT, Result.REJECT, Result.FAKEACCEPT

FIREFOX = {"ProductName": "Firefox", "Version": "120.0", "ReleaseChannel": "release", "BuildID": "20240228120000"}
LEFT = ("accept_everything", ACCEPT)


def telemetry(name: object = "Windows_NT", build: object = 9600) -> str:
    return json.dumps({"system": {"os": {"name": name, "windowsBuildNumber": build}}})


def judge(annotations: dict[str, str], *rolls: float) -> Verdict:
    return throttle(RULES, annotations, iter(rolls).__next__, TODAY)


def decided(annotations: dict[str, str], *rolls: float) -> tuple[str, Result]:
    verdict = judge(annotations, *rolls)
    return verdict.rule, verdict.result


def test_the_names_and_their_order() -> None:
    assert [rule.name for rule in RULES] == [
        "has_old_buildid",
        "has_hangid_and_browser",
        "infobar_is_true",
        "b2g",
        "unsupported_product",
        "unsupported_packagename",
        "throttleable_0",
        "has_comments",
        "has_phc",
        "is_background",
        "is_shutdownkill",
        "is_firefox_esr_unsupported_windows",
        "is_alpha_beta_esr",
        "is_nightly",
        "is_firefox_desktop",
        "accept_everything",
    ]


@for_each(("age", "old"), [(729, False), (730, False), (731, True)])
def test_old_build_ids(age: int, old: bool) -> None:
    buildid = f"{TODAY - timedelta(age):%Y%m%d}000000"
    expected = ("has_old_buildid", REJECT) if old else LEFT
    assert decided({"ProductName": "Thunderbird", "BuildID": buildid}) == expected
    # It comes first: before comments, and before what the product is.
    assert decided({"ProductName": "b2g", "Comments": "", "BuildID": "20010101000000"}) == ("has_old_buildid", REJECT)


@for_each("buildid", ["", "20010101", "2001010100000x", "19990101000000", "20011301000000"])
def test_build_ids_of_another_shape(buildid: str) -> None:
    assert decided({"ProductName": "Thunderbird", "BuildID": buildid}) == LEFT


def test_hangs() -> None:
    hang = {"ProductName": "Thunderbird", "HangID": ""}
    assert decided(hang) == ("has_hangid_and_browser", REJECT)
    assert decided({**hang, "ProcessType": "browser"}) == ("has_hangid_and_browser", REJECT)
    assert decided({**hang, "ProcessType": "content"}) == LEFT
    assert decided({**hang, "ProcessType": ""}) == LEFT
    assert decided({"ProductName": "Thunderbird", "ProcessType": "browser"}) == LEFT


INFOBAR = {"ProductName": "Firefox", "SubmittedFromInfobar": "true", "Version": "57.0", "BuildID": "20171225"}


@for_each("version", ["52.0", "53.", "54.1", "55.0b1", "56.0", "57.0", "58.0", "59.9"])
def test_infobar(version: str) -> None:
    assert decided({**INFOBAR, "Version": version}) == ("infobar_is_true", REJECT)


@for_each(
    "change",
    [
        {"Version": "51.0"},
        {"Version": "60.0"},
        {"Version": "5"},
        {"BuildID": "20171226"},
        {"BuildID": ""},
        {"SubmittedFromInfobar": "false"},
        {"SubmittedFromInfobar": "1"},
        {"ProductName": "Thunderbird"},
    ],
)
def test_not_infobar(change: dict[str, str]) -> None:
    assert decided({**INFOBAR, **change}) == LEFT


@for_each("missing", ["SubmittedFromInfobar", "Version", "BuildID"])
def test_not_infobar_without(missing: str) -> None:
    assert decided({key: value for key, value in INFOBAR.items() if key != missing}) == LEFT


@for_each("product", ["b2g", "B2G", "B2g"])
def test_b2g(product: str) -> None:
    assert decided({"ProductName": product}) == ("b2g", FAKEACCEPT)


@for_each("product", ["", "firefox", "Firefox ", "Fennec", "b2gg", "SeaMonkey", "\ud800"])
def test_unsupported_products(product: str) -> None:
    assert decided({"ProductName": product, "Comments": "x"}) == ("unsupported_product", REJECT)


def test_no_product() -> None:
    assert decided({}) == ("unsupported_product", REJECT)


@for_each("product", ["Firefox", "Firefox Enterprise", "MozillaVPN", "Thunderbird"])
def test_supported_products_for_the_desktop(product: str) -> None:
    assert decided({"ProductName": product}) == LEFT


PACKAGES = {
    "Fenix": ["org.mozilla.firefox", "org.mozilla.firefox_beta", "org.mozilla.fenix"],
    "Focus": ["org.mozilla.focus", "org.mozilla.focus.beta", "org.mozilla.focus.nightly", "org.mozilla.klar"],
    "ReferenceBrowser": ["org.mozilla.reference.browser"],
}


@for_each("product", PACKAGES)
def test_package_names(product: str) -> None:
    unsupported = ("unsupported_packagename", REJECT)
    assert decided({"ProductName": product}) == unsupported
    for package in ["", "org.mozilla", "com.example.browser", *(name for names in PACKAGES.values() for name in names)]:
        expected = LEFT if package in PACKAGES[product] else unsupported
        assert decided({"ProductName": product, "Android_PackageName": package}) == expected


def test_package_names_of_other_products_do_not_matter() -> None:
    assert decided({"ProductName": "Thunderbird", "Android_PackageName": "com.example"}) == LEFT


@for_each(
    ("annotation", "value", "rule"),
    [
        ("Throttleable", "0", "throttleable_0"),
        ("Comments", "it crashed", "has_comments"),
        ("Comments", "", "has_comments"),
        ("PHCKind", "UseAfterFree", "has_phc"),
        ("PHCKind", "", "has_phc"),
        ("ProcessType", "gpu", "is_background"),
        ("ProcessType", "plugin", "is_background"),
        ("ProcessType", "rdd", "is_background"),
        ("ProcessType", "socket", "is_background"),
        ("ProcessType", "utility", "is_background"),
        ("ReleaseChannel", "aurora", "is_alpha_beta_esr"),
        ("ReleaseChannel", "beta", "is_alpha_beta_esr"),
        ("ReleaseChannel", "esr", "is_alpha_beta_esr"),
        ("ReleaseChannel", "nightly", "is_nightly"),
        ("ReleaseChannel", "nightly-try", "is_nightly"),
    ],
)
def test_always_wanted(annotation: str, value: str, rule: str) -> None:
    verdict = Verdict(ACCEPT, rule, 100)
    assert judge({**FIREFOX, annotation: value}) == verdict


@for_each(
    ("annotation", "value"),
    [("Throttleable", "1"), ("Throttleable", ""), ("ProcessType", "content"), ("ProcessType", "gpus")],
)
def test_not_especially_wanted(annotation: str, value: str) -> None:
    assert decided({**FIREFOX, annotation: value}, 50) == ("is_firefox_desktop", REJECT)


def test_shutdown_kills_chain_with_the_sample_of_firefox() -> None:
    kill = {**FIREFOX, "ipc_channel_error": "ShutDownKill"}
    assert judge(kill, 10) == Verdict(REJECT, "is_shutdownkill", 10)
    assert judge(kill, 9.9, 9.9) == Verdict(ACCEPT, "is_firefox_desktop", 10)
    assert judge(kill, 9.9, 10) == Verdict(REJECT, "is_firefox_desktop", 10)
    assert decided({**kill, "Comments": ""}) == ("has_comments", ACCEPT)
    assert decided({**FIREFOX, "ipc_channel_error": "shutdownkill"}, 0) == ("is_firefox_desktop", ACCEPT)


ESR = {**FIREFOX, "ReleaseChannel": "esr"}


@for_each("build", [9600, 7601, 0])
def test_esr_on_an_unsupported_windows(build: int) -> None:
    crash = {**ESR, "TelemetryEnvironment": telemetry(build=build)}
    assert judge(crash, 25) == Verdict(REJECT, "is_firefox_esr_unsupported_windows", 25)
    assert judge(crash, 24.9) == Verdict(ACCEPT, "is_alpha_beta_esr", 100)


@for_each(
    "environment",
    [
        telemetry(build=9601),
        telemetry(build="9600"),
        telemetry(build=None),
        telemetry(build=True),
        telemetry(name="Linux"),
        telemetry(name=["Windows_NT"]),
        '{"system": {"os": []}}',
        '{"system": null}',
        "[]",
        "{",
        "",
        "[" * 100_000,
        "\ud800",
    ],
)
def test_esr_elsewhere(environment: str) -> None:
    assert decided({**ESR, "TelemetryEnvironment": environment}) == ("is_alpha_beta_esr", ACCEPT)


def test_esr_without_telemetry_and_others_with_it() -> None:
    assert decided(ESR) == ("is_alpha_beta_esr", ACCEPT)
    thunderbird = {**ESR, "ProductName": "Thunderbird", "TelemetryEnvironment": telemetry()}
    assert decided(thunderbird) == ("is_alpha_beta_esr", ACCEPT)
    assert decided({**FIREFOX, "TelemetryEnvironment": telemetry()}, 0) == ("is_firefox_desktop", ACCEPT)


def test_firefox_desktop() -> None:
    assert judge(FIREFOX, 9.9) == Verdict(ACCEPT, "is_firefox_desktop", 10)
    assert judge(FIREFOX, 10) == Verdict(REJECT, "is_firefox_desktop", 10)
    assert decided({**FIREFOX, "ReleaseChannel": "default"}) == LEFT
    assert decided({**FIREFOX, "ProductName": "Thunderbird"}) == LEFT
