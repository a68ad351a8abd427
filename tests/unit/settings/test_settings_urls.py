import pytest

from collectord.settings.urls import http_parts, numbered, redacted_url, without_quoting_input, without_secrets
from tests.support.cases import for_each

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"


@for_each(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8000/submit", "http://127.0.0.1:8000/submit"),
        ("https://[::1]:8000/submit/", "https://[::1]:8000/submit/"),
        ("http://h", "http://h"),
        ("http://h/submit?key=S3CR3T", "http://h/submit?key=***"),
        ("http://h/submit?key=S3CR3T&env=prod&S3CR3T", "http://h/submit?key=***&env=***&***"),
        ("http://h/submit?S3CR3T", "http://h/submit?***"),
        ("http://h?key=S3CR3T", "http://h?key=***"),
        ("http://h/submit#S3CR3T", "http://h/submit#***"),
        ("http://user:S3CR3T@h/submit", "http://***@h/submit"),
        ("https://S3CR3T@h/1", "https://***@h/1"),
        ("redis://:S3CR3T@h:6379/0", "redis://***@h:6379/0"),
        ("amqp://user:S3C/R3T@h/%2F", "amqp://***@h/%2F"),
        ("amqp://user:S3C@R3T@h/%2F", "amqp://***@h/%2F"),
        ("amqp://user:S3C?R3T@h/%2F", "amqp://***"),
        ("amqp://user:S3C#R3T@h/%2F", "amqp://***"),
        (
            "https://hooks.slack.com/services/T01/B02/XxYyZz0011223344AaBbCcDd",
            "https://hooks.slack.com/services/T01/B02/***",
        ),
        ("https://h/hook/abcdefabcdefabcdefabcdef", "https://h/hook/***"),
        ("https://h/hook/0b5a8f20-0000-4000-8000-123456789abc", "https://h/hook/***"),
        ("https://h/crash-reports-of-the-desktop/submit", "https://h/crash-reports-of-the-desktop/submit"),
        (f"https://h/v1/dump/{CRASH_ID}", f"https://h/v1/dump/{CRASH_ID}"),
        (f"https://h/v1/dump/{CRASH_ID}.json", f"https://h/v1/dump/{CRASH_ID}.json"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_a_url_as_everybody_may_see_it(url: str, shown: str) -> None:
    assert redacted_url(url) == shown
    assert redacted_url(shown) == shown


@for_each(
    ("text", "shown"),
    [
        ("", ""),
        ("it is full: 3 bytes are free", "it is full: 3 bytes are free"),
        ("what? nothing & nobody", "what? nothing & nobody"),
        ("HTTPConnectionPool(host='h', port=9): url: /submit?key=S3CR3T (Caused by", None),
        ('Could not connect to the endpoint URL: "http://user:S3CR3T@h/bucket"', None),
        ("<a href='http://h/?a=b&key=S3CR3T'>http://h/?S3CR3T</a>", None),
        ("GET /submit?env=prod&key=S3CR3T HTTP/1.1", "GET /submit?env=***&key=*** HTTP/1.1"),
        ("no connection to http://127.0.0.1:9000: refused", "no connection to http://127.0.0.1:9000: refused"),
        ("no connection to https://[::1]:9000: refused", "no connection to https://[::1]:9000: refused"),
        ("no connection to amqp://user:S3CR3T: refused", "no connection to amqp://*** refused"),
        ("no connection to amqp://user:S3CR3T@h:5672: refused", None),
        ("see https://h/a and https://h/b, too", "see https://h/a and https://h/b, too"),
    ],
)
def test_a_text_as_everybody_may_see_it(text: str, shown: str | None) -> None:
    found = without_secrets(text)
    assert "S3CR3T" not in found
    if shown is not None:
        assert found == shown
    assert without_secrets(found) == found


def test_names_that_are_the_same() -> None:
    assert numbered([]) == []
    assert numbered(["a", "b", "a", "a", "a (2)"]) == ["a", "b", "a (2)", "a (3)", "a (2) (2)"]


def test_an_error_does_not_quote_the_url() -> None:
    with pytest.raises(ValueError, match=r"^must be another$") as raised, without_quoting_input("must be another"):
        raise TypeError("S3CR3T")
    assert raised.value.__suppress_context__


def test_an_http_url_is_split() -> None:
    parts = http_parts("https://h:8443/submit?key=1")
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("https", "h", 8443, "/submit")


@for_each(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("h/submit", id="no scheme"),
        pytest.param("ftp://h/submit", id="another scheme"),
        pytest.param("http:///submit", id="no host"),
        pytest.param("http://h:0/submit", id="port 0"),
        pytest.param("http://h:port/submit", id="no number"),
        pytest.param("http://h:65536/submit", id="port too large"),
    ],
)
def test_what_is_no_http_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"no URL of a web server|[Pp]ort"):
        http_parts(url)
