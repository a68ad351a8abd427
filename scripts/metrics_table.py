"""
Writes the table of all metrics in docs/metrics.rst, from the metrics that the code declares.

    python scripts/metrics_table.py [--check] [FILE]
"""

import argparse
import sys
from pathlib import Path

from collectord.metrics import declared

_BEGIN = ".. The table is made by scripts/metrics_table.py.\n\n"
_END = "\n.. The end of the table.\n"
_DOCS = Path(__file__).parents[1] / "docs" / "metrics.rst"


def table() -> str:
    """Return a reStructuredText table of all metrics: name as Prometheus sees it, type, labels, meaning."""
    rows = [("Metric", "Type", "Labels", "Meaning")]
    for metric in declared():
        name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
        labels = ", ".join(f"``{label}``" for label in metric.labels)
        rows.append((f"``{name}``", metric.kind, labels, metric.text))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


def main() -> int:
    """Write the table, or with --check only say whether it is up to date; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if it is not up to date")
    parser.add_argument("file", type=Path, nargs="?", default=_DOCS)
    options = parser.parse_args()
    old = options.file.read_text("utf-8")
    before, _, rest = old.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        print(f"{options.file}: there are no comments that mark the place of the table", file=sys.stderr)
        return 1
    new = f"{before}{_BEGIN}{table()}{_END}{after}"
    if options.check:
        if new != old:
            print(f"{options.file}: not up to date; run python scripts/metrics_table.py", file=sys.stderr)
        return int(new != old)
    options.file.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
