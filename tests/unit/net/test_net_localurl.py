"""
Which URL leads to a port, for a client on this host.
"""

from collectord.net.localurl import url_of
from tests.support.cases import for_each


@for_each(
    ("endpoint", "url"),
    [
        ("tcp:8001:interface=127.0.0.1", "http://127.0.0.1:8001"),
        ("tcp:8001", "http://127.0.0.1:8001"),
        ("tcp:port=8001:interface=0.0.0.0", "http://127.0.0.1:8001"),
        ("tcp:8001:interface=10.1.2.3", "http://10.1.2.3:8001"),
        ("tcp6:8001", "http://[::1]:8001"),
        (r"tcp6:8001:interface=\:\:", "http://[::1]:8001"),
        (r"tcp:8001:interface=\:\:1", "http://[::1]:8001"),
        ("ssl:8001:privateKey=k", "https://127.0.0.1:8001"),
        ("unix:/run/collectord/admin", "unix:/run/collectord/admin"),
        ("unix:address=/run/a:mode=600", "unix:/run/a"),
        ("systemd:domain=INET:index=0", ""),
        ("tcp:http", ""),
        ("", ""),
    ],
)
def test_the_url_of_an_endpoint(endpoint: str, url: str) -> None:
    assert url_of(endpoint) == url
