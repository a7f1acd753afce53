from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_loop_of_the_readme_runs_and_ends_in_success(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    source = block.group(1)
    assert len([line for line in source.splitlines() if line.strip()]) <= 12
    script = tmp_path / "loop.py"
    script.write_text(source, encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(script))
    assert "success +10.0" in printed.getvalue()


def test_the_file_tree_of_the_readme_names_files_that_exist() -> None:
    tree = README.read_text(encoding="utf-8").split("## Where things are")[1].split("```")[1]
    folder = Path()
    missing = []
    for line in tree.splitlines():
        if line and not line.startswith(" "):
            folder = README.parent / line.split("/")[0]
        names = re.findall(r"[\w/]+\.py\b|\b\w+/(?=[,\s])", line)
        missing += [f"{folder.name}/{n}" for n in names if not _exists(folder, n)]
    assert missing == []


def _exists(folder: Path, name: str) -> bool:
    return (folder / name).exists() or (folder.parent / name).exists()
