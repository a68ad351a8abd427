"""
The URL by which a client on this host reaches a port.
"""

import re


def url_of(endpoint: str) -> str:
    """
    Return the URL of a Twisted server endpoint string, for a client on this host.

    @return: empty: it has none, or one that can't be known. Of a unix socket it is C{unix:} with the path.
    """
    kind, *fields = [field.replace("\\:", ":") for field in re.split(r"(?<!\\):", endpoint)]
    named = dict(field.split("=", 1) for field in fields if "=" in field)
    bare = [field for field in fields if "=" not in field]
    if kind == "unix" and (bare or "address" in named):
        return f"unix:{named.get('address') or bare[0]}"
    port = named.get("port") or (bare[0] if bare else "")
    if kind not in ("tcp", "tcp6", "ssl", "tls") or not port.isdigit():
        return ""
    host = named.get("interface", "")
    if host in ("", "0.0.0.0", "::"):  # noqa: S104  (all addresses, so loopback too)
        host = "::1" if kind == "tcp6" else "127.0.0.1"
    return f"{'https' if kind in ('ssl', 'tls') else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
