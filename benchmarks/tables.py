"""Write the tables of README.md and docs/measured.md from results/*.json.

python benchmarks/tables.py

What a table says is in `operator_tables.py` and `network_tables.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import network_tables
import operator_tables
from measure import RESULTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "measured.md")
TABLES = {**operator_tables.TABLES, **network_tables.TABLES}


def main() -> None:
    for page in PAGES:
        text = page.read_text()
        for name, table in TABLES.items():
            results = RESULTS / f"{name}.json"
            if not results.is_file():  # a benchmark that nobody has run yet
                continue
            body = table.markdown(json.loads(results.read_text()))
            pattern = rf"(<!-- table:{name} -->\n).*?(<!-- /table:{name} -->)"
            text = re.sub(pattern, lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text, flags=re.DOTALL)
        page.write_text(text)
        print(f"wrote the tables of {page.name}")


if __name__ == "__main__":
    main()
