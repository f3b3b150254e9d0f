"""What a failing pytest item prints: the claim, the witness, the residual against the tolerance, how to replay it."""

from __future__ import annotations

from ...results import Result


def failure_text(result: Result, report_dir: str | None) -> str:
    """The text of a result that does not stand.

    Args:
        report_dir: where the witness files lie; None where none are written.
    """
    from ..networks.spec import Network

    lines = [result.line()]
    if result.source:
        lines.append(f"source of the claim: {result.source}")
    witness = result.witness
    if witness is None:
        return "\n".join(lines)
    figures = witness["figures"]
    network = witness["network"]
    shown = repr(Network.from_json(network)) if "calls" in network else f"the model {network['factory']}"
    if len(shown) > 4000:
        shown = shown[:4000] + " ... (a wide network; the whole is in the witness)"
    lines += ["", shown]
    for name in ("x", "target", "baseline", "data"):
        if witness.get(name) is not None:
            lines.append(f"{name} = {_short(witness[name])}")
    for name, value in witness.get("drawn", {}).items():
        lines.append(f"{name} = {'(a network, in the witness)' if isinstance(value, dict) else _short(value)}")
    lines.append("")
    if "error" in figures:
        lines.append(figures["what"])
    else:
        lines += [
            f"attribution = {_short(figures['attribution'])}",
            figures["what"] + ":",
            f"    expected {_short(figures['expected'])}",
            f"    obtained {_short(figures['obtained'])}",
            f"    residual {figures['residual']} against tolerance {figures['tolerance']}",
        ]
    if report_dir is not None and result.witness_file is not None:
        from ...reports.words import replay_line

        lines += ["", str(replay_line({"witness_file": result.witness_file, "witness": witness}, report_dir))]
    else:
        lines += ["", "a script that shows it:", "", witness["script"]]
    return "\n".join(lines)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 600 else text[:600] + " ..."
