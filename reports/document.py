"""Read, check and write the two documents: results.json and a witness."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..results import SCHEMA_VERSION
from .tensors import is_rectangular, shape_of

_SCHEMAS = Path(__file__).parent / "schema"


def load_results(path: str | Path) -> dict[str, Any]:
    """Read results.json and check it.

    Raises:
        UsageError: the file is missing, not strict JSON, or not a results document.
    """
    document = _load(Path(path), "attribcheck run")
    validate_results(document, str(path))
    return document


def load_witness(path: str | Path) -> dict[str, Any]:
    """Read one saved counterexample and check it.

    Raises:
        UsageError: the file is missing, not strict JSON, or not a witness.
    """
    document = _load(Path(path), "attribcheck run")
    validate_witness(document, str(path))
    return document


def validate_results(document: Any, name: str = "results") -> None:
    """Check a results document against its schema, and what a schema cannot say.

    Args:
        document: the parsed JSON.
        name: what to call it in the message, such as its path.

    Raises:
        UsageError: names the first place that is wrong, such as results[3].verdict.
    """
    _check_schema(document, "results", name)
    _check_distinct(document, "results", ("method", "axiom", "family"), name)
    _check_distinct(document, "sanity", ("method", "check", "model", "data"), name)
    for index, result in enumerate(document["results"]):
        if result["witness"] is not None:
            for place, problem in _witness_problems(result["witness"]):
                raise _malformed(name, f"results[{index}].witness.{place}", problem)


def _check_distinct(document: Mapping[str, Any], part: str, keys: tuple[str, ...], name: str) -> None:
    """Refuse two entries of a part of the document that agree in all of these keys."""
    known: dict[tuple[Any, ...], int] = {}
    for index, entry in enumerate(document[part]):
        first = known.setdefault(tuple(entry[key] for key in keys), index)
        if first != index:
            problem = f"the same {', '.join(keys[:-1])} and {keys[-1]} as {part}[{first}]"
            raise _malformed(name, f"{part}[{index}]", problem)


def validate_witness(document: Any, name: str = "witness") -> None:
    """Check a witness against its schema, and that its tensors and its wiring are sound.

    Args:
        document: the parsed JSON.
        name: what to call it in the message, such as its path.

    Raises:
        UsageError: names the first place that is wrong, such as network.calls[2].inputs.
    """
    _check_schema(document, "witness", name)
    for place, problem in _witness_problems(document):
        raise _malformed(name, place, problem)


def _load(path: Path, writer: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; name the file that `{writer}` wrote") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; name the JSON file inside it") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text; name the JSON file that `{writer}` wrote") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        document = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        what = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{path}: is not strict JSON ({what}); write it again with `{writer}`") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: holds no JSON object; name the JSON file that `{writer}` wrote")
    return document


def _refuse(literal: str) -> float:
    raise ValueError(f"{literal} is no JSON number")


def _finite(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise ValueError(f"{literal} is beyond every float")
    return number


def _check_schema(document: Any, schema: str, name: str) -> None:
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(document, dict) and (isinstance(version, bool) or version != SCHEMA_VERSION):
        said = "no schema_version" if version is None else f"schema_version {version!r}"
        raise UsageError(
            f"{name}: has {said}, and this attribcheck reads {SCHEMA_VERSION}; "
            "read it with the attribcheck that wrote it, or run again"
        )
    errors = list(_validator(schema).iter_errors(document))
    if errors:
        first, more = errors[0], len(errors) - 1
        place = _place(first.absolute_path) or "the document"
        raise _malformed(name, place, _shorten(first.message) + (f" (and {more} more)" if more else ""))


@functools.cache
def _validator(schema: str) -> Any:
    # jsonschema takes a tenth of a second to import: only for those who read a document.
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped, unused-ignore]
    from referencing import Registry, Resource

    documents = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in _SCHEMAS.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource.from_contents(content)) for name, content in documents.items()
    )
    return Draft202012Validator(documents[f"{schema}.schema.json"], registry=registry)


def _witness_problems(witness: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Places and problems that the schema cannot express: ragged tensors, broken wiring."""
    for key in ("x", "baseline"):
        if witness[key] is not None and not is_rectangular(witness[key]):
            yield key, "rows of different lengths"
    if witness["baseline"] is not None and shape_of(witness["baseline"]) != shape_of(witness["x"]):
        yield "baseline", f"shape {shape_of(witness['baseline'])} where x has {shape_of(witness['x'])}"
    if len(witness["target"]) != len(witness["x"]):
        yield "target", f"{len(witness['target'])} targets for {len(witness['x'])} samples"
    network = witness["network"]
    if "factory" in network:
        return
    if shape_of(witness["x"])[1:] != network["input_shape"]:
        yield "x", f"samples of shape {shape_of(witness['x'])[1:]} for a network of {network['input_shape']}"
    known = {"x"}
    for index, call in enumerate(network["calls"]):
        if call["layer"] not in network["layers"]:
            yield f"network.calls[{index}].layer", f"no layer {_shorten(repr(call['layer']))}"
        unknown = [value for value in call["inputs"] if value not in known]
        if unknown:
            yield f"network.calls[{index}].inputs", f"no earlier value {_shorten(repr(unknown[0]))}"
        if call["value"] in known:
            yield f"network.calls[{index}].value", f"{_shorten(repr(call['value']))} is computed twice"
        known.add(call["value"])


def _place(path: Any) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).lstrip(".")


def _shorten(text: str, limit: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def _malformed(name: str, place: str, problem: str) -> UsageError:
    return UsageError(f"{name}: {place}: {problem}; write the file again, or mend it there")
