"""Write docs/api.md, the reference of the public Python names, from their signatures and docstrings.

python tools/api_page.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import otoscope

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
INTRO = """# Python reference

The names of `import otoscope as oto`, made from their docstrings by `tools/api_page.py`. How to use them, by
question: [python.md](python.md).
"""


def page() -> str:
    """Return the page."""
    names = [name for name in otoscope.__all__ if name != "__version__"]
    return "\n".join([INTRO, *(section(name, getattr(otoscope, name)) for name in names)]).rstrip() + "\n"


def section(name: str, thing: Any) -> str:
    """Describe one public name: signature, docstring and, for classes, each public method in one line."""
    lines = [f"## {name}", ""]
    if inspect.isclass(thing):
        lines += [prose(thing), ""]
        members = [(each, member) for each, member in inspect.getmembers(thing) if is_public(thing, each, member)]
        lines += [f"- `{each}{signature(member)}`: {summary(member)}" for each, member in members]
        lines += [""] if members else []
    else:
        lines += ["```python", f"{name}{signature(thing)}", "```", "", prose(thing), ""]
    return "\n".join(lines)


def is_public(owner: type, name: str, member: Any) -> bool:
    """Whether a member is documented and defined in otoscope, not inherited from elsewhere."""
    if name.startswith("_") or not (callable(member) or isinstance(member, property)):
        return False
    target = member.fget if isinstance(member, property) else inspect.unwrap(getattr(member, "__func__", member))
    return bool(inspect.getdoc(member)) and (getattr(target, "__module__", "") or "").startswith("otoscope")


def signature(member: Any) -> str:
    """Return the parameters, without annotations' module names; nothing for a property."""
    if isinstance(member, property):
        return ""
    try:
        text = str(inspect.signature(member))
    except (TypeError, ValueError):
        return "()"
    text = re.sub(r"\((?:self|cls)(?:, )?", "(", text)
    text = re.sub(r"(: |-> )'([^']+)'", r"\1\2", text)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(\w+)", r"\1", text)


def summary(member: Any) -> str:
    """Return the first sentence of a docstring."""
    return " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())


def prose(thing: Any) -> str:
    """Return a docstring as Markdown: its indented blocks ("Raises:") become lists."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r"\n {8,}", " ", text)
    return re.sub(r"^ {4}(?=\S)", "- ", text, flags=re.MULTILINE).replace(":\n- ", ":\n\n- ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
