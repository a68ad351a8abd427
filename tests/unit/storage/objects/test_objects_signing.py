"""
Requests to S3 are signed as Amazon's documentation shows it.
"""

import hashlib
from datetime import UTC, datetime

from collectord.storage.objects.encoding import query_of, quoted
from collectord.storage.objects.s3signing import Credentials, signed
from tests.support.cases import for_each

CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "examplebucket.s3.amazonaws.com"


@for_each(
    ("method", "key", "query", "headers", "body", "signature"),
    [
        (
            "PUT",
            "test$file.text",
            {},
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "test.txt",
            {},
            {"range": "bytes=0-9"},
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "GET",
            "",
            {"lifecycle": ""},
            {},
            b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "",
            {"prefix": "J", "max-keys": "2"},
            {},
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["put", "get", "lifecycle", "list"],
)
def test_the_examples_of_amazon(
    method: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes, signature: str
) -> None:
    sha256 = hashlib.sha256(body).hexdigest()
    given = {"host": HOST, **headers}
    made = signed(method, f"/{quoted(key)}", query_of(query), given, sha256, CREDENTIALS, "us-east-1", NOW)
    assert made["authorization"].endswith(f"Signature={signature}")
    assert made["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/")
    assert given.items() <= made.items()


def test_a_session_token_is_signed_as_well() -> None:
    credentials = Credentials("A", "s", "a-while")
    made = signed("GET", "/", "", {"host": HOST}, "0" * 64, credentials, "us-east-1", NOW)
    assert made["x-amz-security-token"] == "a-while"
    assert ";x-amz-security-token," in made["authorization"]


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("A", "secret", "secret"))
