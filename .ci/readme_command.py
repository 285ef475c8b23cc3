"""Print the one fenced command of a README section: python .ci/readme_command.py Test."""

import re
import sys
from pathlib import Path

text = (Path(__file__).parent.parent / "README.md").read_text()
section = re.search(rf"^## {re.escape(sys.argv[1])}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
if section is None:
    sys.exit(f"README.md has no section {sys.argv[1]!r}")
blocks = re.findall(r"^```\w*\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
if len(blocks) != 1 or len(blocks[0].strip().splitlines()) != 1:
    sys.exit(f"README.md: section {sys.argv[1]!r} must hold exactly one fenced command line, saw {blocks}")
print(blocks[0].strip())
