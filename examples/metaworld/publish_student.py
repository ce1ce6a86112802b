"""The demo's bundle without its FP32 graphs, small enough for this repository: what CI guards and newcomers run.

    python -m examples.metaworld.publish_student out/demo/student.bundle

Graphs, golden vectors and evidence are copied byte by byte; the manifest names the bundle that they are from.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edgevla.bundle import Bundle, open_bundle, write_bundle
from edgevla.errors import EdgevlaError

PUBLISHED = Path(__file__).with_name("student.bundle")
FLOAT = "float/"  # folder of the graphs that are left out


def publish(source: Bundle, dest: Path) -> Bundle:
    """Write `dest` and return it opened. Raises BadInput."""
    manifest = json.loads(source.head.manifest)
    files = {name: source.read(name) for name in source.manifest.files if not name.startswith(FLOAT)}
    kept = {key: value for key, value in manifest.items() if key not in ("files", "schema")}
    kept |= {"float_stages": [], "recipe": {**manifest["recipe"], "published_from": source.sha256}}
    return write_bundle(dest, kept, files)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=PUBLISHED)
    asked = parser.parse_args(argv)
    try:
        written = publish(open_bundle(asked.bundle), asked.out)
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{asked.out}: {written.total_bytes() / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
