"""
An S3 server that a test owns: moto, with authentication on.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import boto3
from attrs import define, field
from botocore.config import Config

from tests.support.daemon import free_port
from tests.support.server import Server

REGION = "us-east-1"
_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
_UNAUTHENTICATED = 3
"""Calls that need no credentials: those that make some."""


@define
class S3Server(Server):
    """
    What it holds goes with its process.

    @ivar access_key: of the one user there is; the same after each start.
    """

    port: int = field(factory=free_port)
    access_key: str = field(default="", init=False)
    secret_key: str = field(default="", init=False, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, with no bucket."""
        super().start()
        with urlopen(Request(f"{self.url}/moto-api/seed?a=1", method="POST"), timeout=5):
            pass  # the same key at each start
        iam = self._connect("iam", "nobody", "nothing")
        iam.create_user(UserName="collectord")
        key = iam.create_access_key(UserName="collectord")["AccessKey"]
        iam.put_user_policy(UserName="collectord", PolicyName="s3", PolicyDocument=json.dumps(_POLICY))
        self.access_key, self.secret_key = key["AccessKeyId"], key["SecretAccessKey"]

    def command(self) -> Sequence[str]:
        return [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> Mapping[str, str]:
        return {"INITIAL_NO_AUTH_ACTION_COUNT": str(_UNAUTHENTICATED)}

    def client(self) -> Any:
        """A client for the tests themselves."""
        return self._connect("s3", self.access_key, self.secret_key)

    def role(self) -> str:
        """Make a role, and return its ARN."""
        iam = self._connect("iam", self.access_key, self.secret_key)
        made = iam.create_role(RoleName=f"role-{token_hex(4)}", AssumeRolePolicyDocument=json.dumps(_POLICY))
        return str(made["Role"]["Arn"])

    def objects(self, bucket: str, crash_id: str = "") -> dict[str, bytes]:
        """
        What lies in C{bucket}, by key.

        @param crash_id: of this crash only.
        """
        client = self.client()
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys if crash_id in key}

    def puts(self) -> list[str]:
        """The paths of all objects that were put so far, in order, by the server's log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line.split('"PUT ', 1)[1].split(" ", 1)[0] for line in lines if '"PUT ' in line]

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/moto-api/", timeout=5):
                return True
        except (URLError, OSError):
            return False

    def _connect(self, service: str, access_key: str, secret_key: str) -> Any:
        return boto3.session.Session().client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )
