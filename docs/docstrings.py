"""Docstrings of this project, plain text in Google's sections, as reStructuredText."""

import re

_SECTION = re.compile(r"\w+:$")
_MARKUP = re.compile(r"([\\|*]|(?<=\w)_(?!\w))")


def as_rst(lines: list[str]) -> list[str]:
    """Escapes what plain text means literally, before napoleon sees the sections.

    Args:
      lines: of a docstring, without its indentation.

    Returns:
      Lines in which code is marked up as such and indented paragraphs are literal.
    """
    result: list[str] = []
    in_section = in_literal = False
    for line in lines:
        if line.strip() and not line.startswith(" "):
            in_section, in_literal = bool(_SECTION.match(line)), False
        elif line.strip() and not in_section and not in_literal:
            if not result or not result[-1].strip():
                result += ["::", ""]
                in_literal = True
        result.append(line if in_literal else _escape(line))
    return result


def _escape(line: str) -> str:
    """Backticks become those of code; other markup loses its meaning."""
    parts = line.split("`")
    if len(parts) % 2 == 0:  # code that goes over a line's end
        return line
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = f"``{part}``"
        else:
            parts[number] = _MARKUP.sub(r"\\\1", part)
    return "".join(parts)
