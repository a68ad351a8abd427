"""
Whether an object that was stored in S3 has the content that was sent, by what the server says of it.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import md5, sha256
from html import unescape

from attrs import frozen

from collectord.storage.objects.bucket import Digests, Mismatch
from collectord.storage.objects.connections import Answer

_WHOLE = re.compile(r"[0-9a-f]{32}")
_IN_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]+")
_ETAG = re.compile(rb"<ETag>([^<]*)</ETag>")
_SHA256 = re.compile(rb"<ChecksumSHA256>([^<]*)</ChecksumSHA256>")


@frozen
class Claim:
    """
    A claim is what a server says about an object that it has stored.

    @ivar etag: without quotes, in small letters; empty if it says none.
    @ivar sha256: as its header has it; empty if it says none.
    @ivar kms: whether the object is encrypted with keys of the key service. Its ETag is then no checksum.
    """

    etag: str
    sha256: str
    kms: bool


@frozen
class Expected:
    """
    What a server may say about an object that is as it was sent.

    @ivar etag: the ETag of an object that was sent in the same way: whole, or in these parts. Empty: nobody knows.
    @ivar checksums: in Base64. An object in parts has one of its content, or one of the checksums of the parts.
    @ivar whole_md5: reads all of the content for its MD5 in hex. Some servers say that of an object in parts, too.
    """

    etag: str
    checksums: Sequence[str]
    whole_md5: Callable[[], str]


def claim_in(answer: Answer) -> Claim:
    """Read the claim in C{answer}, in its headers or, where parts were put together, in its body."""
    etag = _said(_ETAG, answer) or answer.headers.get("etag", "")
    return Claim(
        etag=bare(etag),
        sha256=_said(_SHA256, answer) or answer.headers.get("x-amz-checksum-sha256", ""),
        kms=answer.headers.get("x-amz-server-side-encryption", "").startswith("aws:kms"),
    )


def bare(etag: str) -> str:
    """An ETag without quotes, in small letters."""
    return etag.strip().removeprefix("W/").strip('"').lower()


def _said(pattern: re.Pattern[bytes], answer: Answer) -> str:
    found = pattern.search(answer.body)
    return unescape(found[1].decode(errors="replace")).strip() if found else ""


def of_whole(digests: Digests, md5: Callable[[], bytes] = lambda: b"") -> Expected:
    """
    What is expected of an object that is sent in one request, or of one part.

    @param md5: reads the content for its MD5, if C{digests} has none.
    """
    return Expected(digests.md5.hex(), [digests.base64_sha256], lambda: md5().hex())


def of_parts(parts: Sequence[Digests], content_sha256: str, whole_md5: Callable[[], str]) -> Expected:
    """
    What is expected of an object that was sent in parts.

    @param content_sha256: of the whole content, in hex.
    """
    etag = md5(b"".join(part.md5 for part in parts), usedforsecurity=False).hexdigest()
    composite = b64encode(sha256(b"".join(part.sha256 for part in parts)).digest()).decode()
    content = b64encode(bytes.fromhex(content_sha256)).decode()
    checksums = [composite, f"{composite}-{len(parts)}", content]
    return Expected(f"{etag}-{len(parts)}", checksums, whole_md5)


def is_proven(claim: Claim, expected: Expected) -> bool:
    """
    Compare what the server says with what it should say.

    @return: whether that proves that the object is as it was sent. An ETag that is no MD5, and not one of parts, proves
        nothing, and neither does one of an object that is encrypted with KMS. One that would have to be made for this
        alone is not compared if the SHA-256 is right.

    @raise Mismatch: the object is another one.
    """
    if claim.sha256 and claim.sha256 not in expected.checksums:
        raise Mismatch(f"was stored with the SHA-256 {claim.sha256}; it should be {expected.checksums[0]}")
    is_checksum = _WHOLE.fullmatch(claim.etag) or _IN_PARTS.fullmatch(claim.etag)
    if claim.kms or not is_checksum or (claim.sha256 and not expected.etag):
        return bool(claim.sha256)
    if claim.etag != expected.etag and not (_WHOLE.fullmatch(claim.etag) and claim.etag == expected.whole_md5()):
        raise Mismatch(f"was stored with the ETag {claim.etag}; it should be {expected.etag or expected.whole_md5()}")
    return True


def compare_size(answer: Answer, size: int) -> None:
    """
    Compare the size of an object, by C{answer} to a HEAD, with what was sent: the least that every server can tell.

    @raise Mismatch: it has another size, or the server says none.
    """
    found = answer.headers.get("content-length", "an unknown number of")
    if found != str(size):
        raise Mismatch(f"was stored with {found} bytes; it should be {size}")
