"""The published schema of ``--json``: every form that the program writes is one of the forms it describes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stress

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "bench" / "stress.schema.json").read_text())

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}

KEYWORDS = {
    *("$ref", "oneOf", "type", "const", "enum", "minimum", "properties", "required", "additionalProperties", "items"),
    *("$schema", "$defs", "title", "description"),
}
"""What ``faults`` below knows of JSON Schema 2020-12."""

Serve = Callable[..., Any]


def faults(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """Where *value* is not as *schema* says; empty if it is."""
    assert schema.keys() <= KEYWORDS, schema.keys() - KEYWORDS
    if "$ref" in schema:
        return faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], at)
    if "oneOf" in schema:
        tried = [faults(value, option, at) for option in schema["oneOf"]]
        return [] if tried.count([]) == 1 else [f"{at}: fits {tried.count([])} forms", *min(tried, key=len)]
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r}"]
    kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"{at}: {value!r} is not {kinds}"]
    if "minimum" in schema and value is not None and value < schema["minimum"]:
        return [f"{at}: {value!r} is too small"]
    return _faults_within(value, schema, at)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and not (isinstance(value, bool) and kind in {"integer", "number"})


def _faults_within(value: Any, schema: dict[str, Any], at: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += faults(item, schema["items"], f"{at}[{number}]")
    if isinstance(value, dict):
        found += [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema["additionalProperties"])
            found += [f"{at}.{name} is not described"] if inner is False else faults(item, inner, f"{at}.{name}")
    return found


@pytest.fixture
def written(serve: Serve, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the program against a good server and gives the JSON that it wrote."""

    def good(connection: Any, _: int) -> bool:
        connection.sendall(GOOD)
        return True

    def write(*options: str) -> Any:
        url = serve(good).url
        given = [url if option == "URL" else option for option in options]
        stress.main([*given, "--json", "-"] if "compare" in given else [url, *given, "-c", "2", "-q", "--json", "-"])
        return json.loads(capsys.readouterr().out)

    return write


@pytest.mark.parametrize(
    "options",
    [
        ["-n", "20"],
        ["--rate", "200", "-d", "600ms", "--client", "wire", "--workers", "2"],
        ["--find-max", "p99<10s", "--rate", "20k", "-d", "20ms", "--client", "wire"],
        ["--against", "URL", "--rounds", "2", "-n", "20", "--client", "wire"],
        ["--slow", "head", "-d", "300ms"],
    ],
)
def test_what_is_written_is_as_published(written: Callable[..., Any], options: list[str]) -> None:
    assert faults(written(*options), SCHEMA) == []


def test_a_run_of_failures_is_as_published(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve(lambda *_: False).url
    assert stress.main([url, "--no-probe", "-n", "8", "-c", "2", "-q", "--json", "-", "--client", "wire"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert faults(data, SCHEMA) == [] and data["errors"] == {"reset": 8}


def test_a_comparison_of_files_is_as_published(written: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(written("-n", "20")))
    assert faults(written("compare", str(file), str(file)), SCHEMA) == []


def test_the_schema_tells_a_fault(written: Callable[..., Any]) -> None:
    data = written("-n", "5")
    changes: list[dict[str, Any]] = [
        {"good": -1}, {"good": 1.5}, {"good": True}, {"extra": 1}, {"schema": "x"}, {"plan": {}},
    ]  # fmt: skip
    for change in changes:
        assert faults({**data, **change}, SCHEMA)
    del data["rate"]
    assert any("$.rate is missing" in fault for fault in faults(data, SCHEMA))
