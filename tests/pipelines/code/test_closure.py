"""Closures of real modules, and of packages made by hand, read by a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.verified import sha256_file
from pipelines.code import PROJECT
from pipelines.code.closure import closure, closure_digest, closure_modules
from pipelines.errors import UserError


def test_a_closure_holds_imports_packages_on_the_way_and_their_data() -> None:
    found = closure("pipelines.report.pages")
    # pages -> comparison -> files; templates are those of the package, not of others.
    assert found["pipelines/report/comparison.py"] == sha256_file(PROJECT / "pipelines/report/comparison.py")
    assert {"pipelines/__init__.py", "pipelines/report/__init__.py", "pipelines/files.py"} <= found.keys()
    assert {"pipelines/report/templates/style.css", "pipelines/report/templates/index.html.j2"} <= found.keys()
    assert not any(name.startswith("pipelines/rebuild") for name in found)
    assert list(found) == sorted(found)


def test_an_import_inside_a_function_counts() -> None:
    # pipelines.code.stage imports its status only when it is asked for.
    assert "pipelines.code.status" in closure_modules("pipelines.code.stage")


def test_the_registry_and_the_plug_ins_that_nobody_names_are_left_out() -> None:
    found = closure("pipelines.ingest.__main__", "pipelines.ingest.sources.table")
    sources = {name for name in found if name.startswith("pipelines/ingest/sources/")}
    assert sources == {"pipelines/ingest/sources/__init__.py", "pipelines/ingest/sources/table.py"}
    assert "pipelines/registry.py" not in found


def test_a_module_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(UserError, match=r"models\.clap\.model is no module of flows, pipelines, models"):
        closure("models.clap.model")


def test_a_digest_depends_on_the_modules_alone() -> None:
    assert closure_digest("models.clip.model") == closure_digest("models.clip.model")
    assert closure_digest("models.clip.model") != closure_digest("models.siglip.model")
    # A plug-in of no package counts with its own file.
    assert closure_digest("models.clip.model", __name__) != closure_digest("models.clip.model")


FILES = {
    "pipelines/__init__.py": "",
    "pipelines/errors.py": None,
    "pipelines/files.py": None,
    "pipelines/code/__init__.py": None,
    "pipelines/code/closure.py": None,
    "pipelines/code/packages.py": None,
    "pipelines/registry.py": "import models.b",
    "models/__init__.py": "",
    "models/a/__init__.py": "from models import c",
    "models/a/one.py": "import pipelines.registry, typing\nif typing.TYPE_CHECKING:\n    import models.b\n",
    "models/a/note.txt": "of a",
    "models/a/data/deep.j2": "of a too",
    "models/a/data/__init__.py": "",
    "models/a/sub/__init__.py": "",
    "models/a/sub/two.py": "",
    "models/a/sub/own.css": "of the package sub",
    "models/b.py": "",
    "models/c.py": "",
}


def test_what_a_closure_holds_by_hand(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((PROJECT / name).read_text() if text is None else text)

    def of(module: str) -> Any:
        code = f"import json; from pipelines.code.closure import closure; print(json.dumps(list(closure({module!r}))))"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", code]
        return json.loads(
            subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True).stdout
        )

    # b is imported by the registry, and for types alone; c by the package's own __init__.
    package = ["models/__init__.py", "models/a/__init__.py", "models/a/data/deep.j2", "models/a/note.txt"]
    assert of("models.a.one") == [*package, "models/a/one.py", "models/c.py"]
    sub = ["models/a/sub/__init__.py", "models/a/sub/own.css", "models/a/sub/two.py"]
    assert of("models.a.sub.two") == [*package, *sub, "models/c.py"]
