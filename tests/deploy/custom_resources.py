"""What we use of the Prometheus operator's kinds, which no schema of Kubernetes has.

The names are those of the operator's own definitions (v0.85, `example/prometheus-operator-crd/`).
"""

from __future__ import annotations

import re
from typing import Any

_SELECTOR = {"matchLabels": {str: str}}
_MONITOR = {
    "selector": _SELECTOR,
    "endpoints": [
        {
            "port": str,
            "path": re.compile(r"/.*"),
            "interval": re.compile(r"\d+(ms|s|m|h)"),
            "authorization": {"type": str, "credentials": {"name": str, "key": str}},
        }
    ],
}
_RULE = {
    "groups": [
        {
            "name": str,
            "rules": [
                {
                    "alert": re.compile(r"[A-Za-z]+"),
                    "expr": str,
                    "for": re.compile(r"\d+(ms|s|m|h)"),
                    "labels": {str: str},
                    "annotations": {str: str},
                }
            ],
        }
    ]
}
_SPECS = {"ServiceMonitor": _MONITOR, "PrometheusRule": _RULE}


def check(manifest: dict[str, Any]) -> None:
    """Raise `AssertionError` where a field is not there, or is of another type."""
    assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    _fits(manifest["spec"], _SPECS[manifest["kind"]], manifest["metadata"]["name"])


def _fits(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, list):
        assert isinstance(value, list) and value, where
        for number, each in enumerate(value):
            _fits(each, shape[0], f"{where}[{number}]")
    elif isinstance(shape, dict):
        assert isinstance(value, dict), where
        for key, each in value.items():
            assert isinstance(key, str) and (key in shape or str in shape), f"{where}.{key} does not exist"
            _fits(each, shape.get(key, shape.get(str)), f"{where}.{key}")
    elif isinstance(shape, re.Pattern):
        assert isinstance(value, str) and shape.fullmatch(value), f"{where}: {value!r}"
    else:
        assert isinstance(value, shape), f"{where}: {value!r}"
