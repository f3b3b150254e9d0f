"""What `list` and `explain` say: axioms, checks, methods, families and targets, from their own docstrings and claims."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import axioms
from ..axioms.networks.families import SUMMARIES
from ..axioms.networks.rewrites import REWRITES
from ..axioms.options import OPTIONS, read_family
from ..claims import Claim, Method
from ..errors import UsageError, suggestion
from ..methods.registry import BUILTIN, GROUPS, resolve
from ..reports.document import load_witness
from ..sanity import checks

Rows = list[tuple[str, str]]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def methods() -> Rows:
    """Built-in methods with their first line."""
    return [(name, _first_line(method.doc)) for name, method in BUILTIN.items()]


def axiom_rows() -> Rows:
    """Axioms with their variants."""
    rows = []
    for axiom in axioms.AXIOMS.values():
        rows.append((axiom.name, _first_line(axiom.doc).partition(": ")[2]))
        rows += [(f"  {axiom.full(variant)}", text) for variant, text in axiom.variants.items() if variant]
        if axiom.others:
            rows.append((f"  {axiom.name}/{axiom.others}", axiom.variants[axiom.others]))
    return rows


def families() -> Rows:
    """Families of networks."""
    return list(SUMMARIES.items())


def options() -> Rows:
    """The options that every family takes in brackets: relu(form=module)."""
    return [(name, f"{option.summary} ({', '.join(option.values)})") for name, option in OPTIONS.items()]


def targets() -> Rows:
    """What can be given as a TARGET."""
    return [
        *GROUPS.items(),
        ("captum:Class", "a method of Captum, with options in brackets: captum:IntegratedGradients(n_steps=200)"),
        ("package.module:object", "a callable of your own (the working directory is importable)"),
        *methods(),
    ]


def check_rows() -> Rows:
    """The full-model checks with their findings."""
    rows = []
    for check in checks.every():
        rows.append((check.name, f"{check.summary} (on {check.subject})"))
        rows += [(f"  {name}", f"a finding of {check.name}") for name in check.full_names if name != check.name]
    return rows


def models() -> Rows:
    """The architectures that the full-model checks train, or read weights for."""
    from ..models import subjects

    return subjects.models()


def data() -> Rows:
    """The data sets of the full-model checks."""
    from ..models import subjects

    return subjects.data_sets()


LISTS: dict[str, Callable[[], Rows]] = {
    "methods": methods,
    "axioms": axiom_rows,
    "families": families,
    "options": options,
    "targets": targets,
    "checks": check_rows,
    "models": models,
    "data": data,
}


def explain(name: str) -> str:
    """The reference page of an axiom, a check, a variant, a method, a family, a rewrite, a model or a data set.

    Where an axiom and a check have one name, both pages.

    Raises:
        UsageError: nothing has that name.
    """
    head = name.partition("/")[0]
    if head in axioms.AXIOMS and head in checks.MODULES:
        return _both_pages(name)
    if head in axioms.AXIOMS:
        return _axiom_page(name)
    if head in checks.MODULES:
        return _check_page(name)
    head, fixed = read_family(name) if name.partition("(")[0] in SUMMARIES else (name, {})
    if head in SUMMARIES:
        drawn = "".join(f"\n  {option}={value}" for option, value in fixed.items())
        return f"{name}: {SUMMARIES[head]}{drawn}"
    if name in REWRITES:
        return _axiom_page(f"implementation-invariance/{name}")
    if name in BUILTIN or ":" in name:
        return _method_page(resolve(name)[0])
    for kind, rows in (("model", models()), ("data", data())):
        if name in dict(rows):
            return f"{name} ({kind}): {dict(rows)[name]}"
    known = [*axioms.AXIOMS, *checks.MODULES, *BUILTIN, *SUMMARIES, *REWRITES]
    raise UsageError(f"nothing is called {name!r}; {suggestion(name, known)}")


def _axiom_page(name: str) -> str:
    axiom, chosen = axioms.find(name)
    lines = [name, "=" * len(name), "", axiom.doc.strip(), ""]
    variants = {v: text for v, text in axiom.variants.items() if v and (chosen is None or v == chosen)}
    if variants:
        lines += ["Variants:", *(f"  {axiom.full(v)}: {text}" for v, text in variants.items()), ""]
    lines.append("Claims of the built-in methods:")
    for method in BUILTIN.values():
        claims = [c for c in method.claims if c.name == axiom.name and (chosen is None or c.variant in (None, chosen))]
        for kind in ("holds", "fails"):
            lines += _together([claim for claim in claims if claim.kind == kind], f"{method.name}: {kind} ")
    return "\n".join(lines)


def _both_pages(name: str) -> str:
    """The pages of an axiom and of a full-model check of one name; a variant may be that of one of them alone."""
    pages, refused = [], []
    for page in (_axiom_page, _check_page):
        try:
            pages.append(page(name))
        except UsageError as error:
            refused.append(error)
    if not pages:
        raise refused[0]
    return "\n\n\n".join(pages)


def _check_page(name: str) -> str:
    check, variant = checks.find(name)
    title = f"{name} (on trained models)"
    lines = [title, "=" * len(title), "", check.doc.strip(), ""]
    lines += [f"Looks at {check.subject}, if --model and --data name nothing else.", ""]
    if len(check.full_names) > 1:
        lines += ["Findings:", *(f"  {each}" for each in check.full_names), ""]
    lines.append("Claims of the built-in methods:")
    for method in BUILTIN.values():
        claims = [c for c in method.claims if c.check is not None and c.check.partition("/")[0] == check.name]
        claims = [c for c in claims if variant is None or c.check in (check.name, name)]
        for kind in ("holds", "fails"):
            lines += _together([claim for claim in claims if claim.kind == kind], f"{method.name}: {kind} ")
    return "\n".join(lines)


def _method_page(method: Method) -> str:
    lines = [method.name, "=" * len(method.name), "", inspect.cleandoc(method.doc or "(no description)"), ""]
    kind = {None: "none; sums refer to zeros", "given": "given"}.get(method.baseline, method.baseline)
    lines.append(f"Baseline: {kind}. Random: {'yes' if method.stochastic else 'no'}.")
    if not method.claims:
        return "\n".join([*lines, "", "It declares no claims."])
    for title, wanted in (("What holds:", "holds"), ("What fails, and why:", "fails")):
        claims = [claim for claim in method.claims if claim.kind == wanted]
        if claims:
            lines += ["", title, *_together(claims)]
    shown = [line for claim in method.claims if claim.witness for line in _witness(claim)]
    if shown:
        lines += ["", "Smallest witnesses known (attribcheck replay evaluates their files again):", *shown]
    return "\n".join(lines)


def _witness(claim: Claim) -> list[str]:
    """A pinned witness in a line or two: the layers, the input, what is expected and what is obtained; and its file."""
    assert claim.witness is not None
    try:
        document = load_witness(Path(claim.witness))
    except UsageError:
        return []
    network, figures = document["network"], document["figures"]
    layers = network.get("layers", {})
    wiring = " ".join(layers[call["layer"]]["kind"] for call in network.get("calls", []))
    text = (
        f"{document['axiom']} on {claim.on}: {wiring} at x = {_short(document['x'])}: "
        f"expected {_short(figures['expected'])}, obtained {_short(figures['obtained'])}"
    )
    folded = textwrap.wrap(text, 118, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
    return [*folded, f"      {claim.witness}"]


def _short(numbers: Any) -> str:
    """Nested numbers to four figures."""
    if isinstance(numbers, list):
        return "[" + ", ".join(map(_short, numbers)) + "]"
    return "not finite" if numbers is None else f"{numbers:.4g}"


def _together(claims: list[Claim], before: str = "") -> list[str]:
    """The claims as indented lines: those with one argument are one entry, with their families and variants listed."""
    families: dict[tuple[str, float | None, str], list[str]] = {}
    for claim in claims:
        families.setdefault((claim.axiom, claim.tol, _why(claim)), []).append(claim.on)
    variants: dict[tuple[str, str, float | None, str], list[str]] = {}
    for (axiom, tol, why), on in families.items():
        name, _, variant = axiom.partition("/")
        variants.setdefault((name, ", ".join(on), tol, why), []).append(variant)
    lines = []
    for (name, families_listed, tol, why), chosen in variants.items():
        listed = "".join(f"/{variant}" for variant in chosen) if len(chosen) == 1 and chosen[0] else ""
        if len(chosen) > 1:
            listed = " (" + ", ".join(variant or "all" for variant in chosen) + ")"
        text = (
            f"{before}{name}{listed} on {families_listed}"
            + (f", to {tol:g}" if tol else "")
            + (f": {why}" if why else "")
        )
        lines += textwrap.wrap(text, 118, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
    return lines


def _why(claim: Claim) -> str:
    return "; ".join(text for text in (claim.reason, claim.source) if text)
