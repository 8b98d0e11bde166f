"""The JSON schema of a search space file, for editors that check YAML while it is written.

``python -m segsweep.search.schema search_spaces/schema.json`` writes it anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from segsweep.search.document import SpaceDocument


def schema_text() -> str:
    """The schema as it lies in ``search_spaces/schema.json``."""
    schema = SpaceDocument.model_json_schema(by_alias=True)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
