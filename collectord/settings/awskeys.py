"""
The keys of a user of Amazon's services, or of a server with the same protocol, in the settings.
"""

from typing import Protocol


class AwsKeys(Protocol):
    """The settings that name a user; each may be empty."""

    access_key: str
    secret_key: str
    session_token: str
    profile: str


def refuse_half_a_user(settings: AwsKeys) -> None:
    """
    Refuse keys of which some are missing or one too many is set.

    @raise ValueError: they are, in words for the operator.
    """
    if bool(settings.access_key) != bool(settings.secret_key):
        raise ValueError("set both access_key and secret_key, or neither")
    if settings.session_token and not settings.access_key:
        raise ValueError("session_token needs access_key and secret_key")
    if settings.profile and settings.access_key:
        raise ValueError("set either profile or access_key, not both")
