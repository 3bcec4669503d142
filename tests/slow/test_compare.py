"""`unmask compare` as `make demo` calls it, at its smallest scale."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_report_writes_a_page_and_its_numbers_and_says_where(tmp_path):
    command = [sys.executable, "-m", "unmask.cli.main", "compare", "--scale", "smoke", "--data", "excerpt"]
    done = subprocess.run([*command, "--out", "r"], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "r/index.html" and "report.json" in done.stderr
    page, numbers = (
        (tmp_path / "r" / "index.html").read_text(),
        json.loads((tmp_path / "r" / "report.json").read_text()),
    )
    assert numbers["rows"] and numbers["samples"] and numbers["fills"] and numbers["provenance"]["torch"]
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    again = subprocess.run([*command, "--out", "r"], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert again.returncode == 2 and "not empty" in again.stderr
