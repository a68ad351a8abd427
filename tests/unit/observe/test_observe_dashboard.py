"""
The dashboard is what Grafana takes: its own library reads it, and writes all of it again.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

DASHBOARD = json.loads((Path(__file__).parents[3] / "etc" / "grafana-dashboard.json").read_text())
NOT_IN_THE_LIBRARY = {
    "/__requires",  # for the import: which Grafana and which data sources it needs
    "/annotations/list/*/step",  # of Prometheus alone, as the next one
    "/annotations/list/*/titleFormat",
    "/templating/list/*/definition",  # the query again, for people
}


def lost(sent: Any, back: Any, at: str = "") -> Iterator[str]:
    """Where something is that is not there, or not the same, in what came back."""
    if isinstance(sent, dict) and isinstance(back, dict):
        for name, value in sent.items():
            yield from lost(value, back[name], f"{at}/{name}") if name in back else [f"{at}/{name}"]
    elif isinstance(sent, list) and isinstance(back, list) and len(sent) == len(back):
        for one, other in zip(sent, back, strict=True):
            yield from lost(one, other, f"{at}/*")
    elif sent != back:
        yield at


def through_the_library(dashboard: Any) -> Any:
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


def test_grafana_knows_all_of_the_dashboard() -> None:
    assert set(lost(DASHBOARD, through_the_library(DASHBOARD))) == NOT_IN_THE_LIBRARY


def test_what_grafana_does_not_know_is_found() -> None:
    misspelt = json.loads(re.sub(r'"legendFormat"', '"legendFromat"', json.dumps(DASHBOARD)))
    misspelt["panels"][1]["fieldConfig"]["defaults"]["unti"] = "s"
    found = set(lost(misspelt, through_the_library(misspelt))) - NOT_IN_THE_LIBRARY
    assert found == {"/panels/*/targets/*/legendFromat", "/panels/*/fieldConfig/defaults/unti"}
