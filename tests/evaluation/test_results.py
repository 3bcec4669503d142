"""Where a number was made."""

import platform

from unmask.evaluation import results
from unmask.evaluation.results import processor, provenance


def test_the_machine_is_named_by_its_processor_where_the_system_says_it(monkeypatch):
    monkeypatch.setattr(results, "cpuinfo", lambda: ["vendor_id : X", "model name\t: Some CPU: fast", "model name : 2"])
    assert processor() == "Some CPU: fast" and provenance()["machine"].startswith("Some CPU: fast, ")
    monkeypatch.setattr(results, "cpuinfo", list)
    assert processor() in (platform.processor(), platform.machine())


def test_the_hash_is_of_the_settings_alone():
    one, same, other = provenance(a=1, b="x"), provenance(b="x", a=1), provenance(a=2, b="x")
    assert one["settings_hash"] == same["settings_hash"] != other["settings_hash"]
