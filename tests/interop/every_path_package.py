"""Every variant of a package asked, where nothing of its source is: ``PACKAGE QUESTIONS ANSWERS BLOCKED…``.

A script of its own, for an isolated interpreter in an empty folder. Modules named ``BLOCKED`` cannot be
imported. Answers are written by ``variant|method|question``; the messages of variants that cannot be run are
printed as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any

import numpy as np

path, questions, answers, *blocked = sys.argv[1:]
assert importlib.util.find_spec("tests.support") is None
for name in blocked:
    sys.modules[name] = None  # type: ignore[assignment]  # that is how an import is made to fail

from runtime import convert as nav  # noqa: E402

asked = dict(np.load(questions))
count = 1 + max(int(key.partition("|")[0]) for key in asked)
package = nav.load(path, workdir="workdir", retest_conversions=False)
found: dict[str, Any] = {}
refused: dict[str, str] = {}
for variant, conversion in package.report.conversions.items():
    exporter = None if variant.format is not nav.Format.ONNX else variant.exporter or nav.Exporter.DYNAMO
    try:
        runner = package.get_runner(variant.format, variant.jit, variant.precision, exporter=exporter)
    except Exception as error:  # noqa: BLE001 -- compared by the test
        refused[str(variant)] = str(error)
        continue
    with runner:
        for method in conversion.methods:
            for index in range(count):
                feed = {
                    key.split("|")[1]: value for key, value in asked.items() if key.startswith(f"{index}|")
                }
                (found[f"{variant}|{method}|{index}"],) = runner.infer(feed, method=method).values()
np.savez(answers, **found)
sys.stdout.write(json.dumps(refused))
