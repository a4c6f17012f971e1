"""The audit only measures: its answers and settings reach no stage but the report."""

import yaml

from pipelines.code.closure import closure_modules
from pipelines.code.fingerprint import STAGES


def test_no_stage_but_the_report_depends_on_the_answers(repository):
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]

    def mentions(part):
        return {
            name
            for name, stage in stages.items()
            if any("audit" in entry for entry in stage.get("do", stage).get(part, []))
        }

    assert mentions("deps") == {"report"}
    # The stage `code` only looks whether the file is there.
    assert mentions("params") == {"code", "report"}


def test_no_stage_but_the_report_runs_code_of_the_audit():
    packages = {f"pipelines.{command[0]}" for command in STAGES} - {"pipelines.report"}
    assert len(packages) > 8
    reached = closure_modules(*(f"{package}.stage" for package in packages))
    assert not {module for module in reached if module.startswith("pipelines.audit")}
    assert "pipelines.audit.result" in closure_modules("pipelines.report.stage")
