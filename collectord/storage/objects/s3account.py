"""
The account that a destination in S3 uses: its region and its credentials, also those that boto3 finds and renews.
"""

from functools import partial

from attrs import frozen
from boto3.session import Session
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.credentials import Credentials as FoundCredentials
from botocore.exceptions import NoCredentialsError

from collectord.storage.objects.s3settings import S3Settings
from collectord.storage.objects.s3signing import Credentials

_DEFAULT_REGION = "us-east-1"
_ROLE_SESSION = "collectord"
"""How requests by an assumed role are named in the logs of Amazon."""


@frozen
class Account:
    """
    An account, found once; its credentials are renewed as they expire.

    @ivar region: as the settings, the environment or the profile say.
    """

    region: str
    _found: FoundCredentials

    def credentials(self) -> Credentials:
        """
        Return credentials that are valid now. This may ask a server for them.

        @raise BotoCoreError: there are none now.
        @raise ClientError: the role can't be assumed.
        """
        now = self._found.get_frozen_credentials()
        return Credentials(now.access_key or "", now.secret_key or "", now.token or "")


def find_account(settings: S3Settings) -> Account:
    """
    Find the account of C{settings}. It may read files, and ask a server.

    @raise BotoCoreError: there is no such profile, or there are no credentials.
    """
    session = Session(
        profile_name=settings.profile or None,
        region_name=settings.region or None,
        aws_access_key_id=settings.access_key or None,
        aws_secret_access_key=settings.secret_key or None,
        aws_session_token=settings.session_token or None,
    )
    region = session.region_name or _DEFAULT_REGION
    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    if settings.role_arn:
        fetcher = AssumeRoleCredentialFetcher(
            partial(session.client, region_name=region),
            found,
            settings.role_arn,
            extra_args={"RoleSessionName": _ROLE_SESSION},
        )
        found = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    return Account(region, found)
