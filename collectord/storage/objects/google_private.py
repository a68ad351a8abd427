"""
The only module that relies on what Google's client for storage does not promise: the name of its session.

C{tests/unit/storage/objects/test_objects_gcs.py} asserts that it is there and behaves.
"""

from collections.abc import Callable

from google.cloud.storage import Client


def call_on_answers(client: Client, hook: Callable[..., None]) -> None:
    """
    Let C{hook} be called with each answer that C{client} gets, before the client follows a redirect or reads the body.

    @param hook: is called with a L{Response<requests.Response>}, and more by names. What it raises is raised to
        whoever has asked.
    """
    client._http.hooks["response"].append(hook)
