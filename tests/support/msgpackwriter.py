"""
Writes MessagePack as Sentry's native SDK does.
"""


def packed(value: object) -> bytes:
    """A value of texts, numbers, lists and mappings."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xd3" + value.to_bytes(8, signed=True)
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xA0 + len(text)]) if len(text) < 32 else b"\xdb" + len(text).to_bytes(4)) + text
    if isinstance(value, list):
        return b"\xdc" + len(value).to_bytes(2) + b"".join(map(packed, value))
    assert isinstance(value, dict)
    return b"\xde" + len(value).to_bytes(2) + b"".join(packed(name) + packed(each) for name, each in value.items())
