"""
How requests to Azure say who sends them: signed with the key of the account, with a shared access signature, or with a
token of Microsoft's identity service.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from threading import Lock
from time import time

from attrs import frozen

from collectord.concurrency.lazily import Lazily
from collectord.errors import ConfigError
from collectord.storage.objects.azuresettings import AzureSettings

_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
"""The headers whose values are signed, in this order, also where they are not sent."""
_RENEW_S = 300
"""A token is replaced so many seconds before it expires."""
_SCOPE = "https://storage.azure.com/.default"


@frozen
class Request:
    """
    A request to be authorized.

    @ivar path: as it is sent.
    @ivar query: not encoded.
    @ivar headers: their names in small letters.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


Authorize = Callable[[Request], Mapping[str, str]]
"""Makes the headers that have to be added to a request. It may block."""


class NotAuthorized(Exception):
    """There are no credentials now. The text says why."""


def authorization_of(settings: AzureSettings) -> Authorize:
    """
    Choose how requests are authorized.

    @raise ConfigError: tokens of the identity service are needed, and its client is not installed.
    """
    if settings.sas_token:
        return lambda request: {}
    if settings.account_key:
        key = b64decode(settings.account_key)
        return lambda request: {"authorization": f"SharedKey {settings.account}:{signature(request, settings, key)}"}
    token = _tokens()
    return lambda request: {"authorization": f"Bearer {token()}"}


def _tokens() -> Callable[[], str]:
    try:
        from azure.core.exceptions import AzureError
        from azure.identity import DefaultAzureCredential
    except ModuleNotFoundError as e:
        hint = "set account_key or sas_token, or for credentials of the environment: pip install 'collectord[azure]'"
        raise ConfigError(f"the module {e.name} is missing: {hint}") from e
    credential = Lazily(DefaultAzureCredential)

    def get() -> tuple[str, float]:
        try:
            found = credential().get_token(_SCOPE)
        except AzureError as e:
            raise NotAuthorized(str(e)) from e
        return found.token, found.expires_on

    lock, latest = Lock(), ("", 0.0)

    def token() -> str:
        nonlocal latest
        with lock:
            if latest[1] < time() + _RENEW_S:
                latest = get()
            return latest[0]

    return token


def signature(request: Request, settings: AzureSettings, key: bytes) -> str:
    """
    Sign a request with the key of the account, as Azure calls it C{SharedKey}.

    @param key: decoded.
    """
    headers = {name: value for name, value in request.headers.items() if (name, value) != ("content-length", "0")}
    own = [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    query = [f"{name}:{request.query[name]}" for name in sorted(request.query)]
    resource = f"/{settings.account}{request.path}"
    lines = [request.method, *(headers.get(name, "") for name in _SIGNED), *own, resource, *query]
    return b64encode(hmac.digest(key, "\n".join(lines).encode(), "sha256")).decode()
